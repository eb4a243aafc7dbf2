//! Modbus over a serial line (RTU): the unit of `modbus.rs` at the far end of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;

use crate::line::Line;
use crate::modbus::{Answer, PIECES, REQUEST, Unit, registers, right, settings, wrong};
use crate::protocol::Protocol;

struct Rtu {
    port: PathBuf,
    unit: Unit,
    thrown: AtomicU64,
}

/// With the checksum (Modbus over Serial Line 1.02, section 6.2.2) behind it.
fn checked(bytes: &[u8]) -> Vec<u8> {
    let shift = |sum: u16, _| if sum & 1 == 1 { sum >> 1 ^ 0xa001 } else { sum >> 1 };
    let sum = bytes.iter().fold(0xffff, |sum, byte| (0..8).fold(sum ^ u16::from(*byte), shift));
    [bytes, &sum.to_le_bytes()].concat()
}

fn frame(data: &[u8]) -> Vec<u8> {
    checked(&[&[1][..], data].concat())
}

async fn converse(mut line: Line, unit: Unit) -> Result<()> {
    let mut asked: Option<oneshot::Sender<Vec<u8>>> = None;
    loop {
        let mut request = [0; 8];
        line.stream()?.read_exact(&mut request).await?;
        if let Some(asked) = asked.take() {
            drop(asked.send(request.into()));
        }
        let Answer { bytes, is_last, next } = unit.answer(frame);
        if is_last {
            line.lose(&bytes).await?;
        } else {
            line.say(&bytes).await?;
            asked = next;
        }
    }
}

impl Protocol for Rtu {
    const DRIVER: &'static str = "modbus";
    const CONNECTIONS: usize = 1;
    type Client = Unit;

    async fn start() -> Result<Self> {
        let (line, unit) = (Line::new().await?, Unit::default());
        let port = line.port();
        tokio::spawn(converse(line, unit.clone()));
        Ok(Self { port, unit, thrown: AtomicU64::new(0) })
    }

    fn settings(&self) -> String {
        settings(&format!("port = \"{}\"\nmode = \"8N1\"", self.port.display()))
    }

    async fn connect(&self, _address: &str) -> Result<Unit> {
        Ok(self.unit.clone())
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        right().iter().map(|data| frame(data)).collect()
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        let right = frame(&registers("21.5"));
        let another_unit = checked(&[&[2][..], &right[1..right.len() - 2]].concat());
        let whole =
            [vec![], right[..5].to_vec(), right[..right.len() - 1].to_vec(), right.repeat(2), another_unit];
        let data = wrong().iter().map(|data| frame(data)).collect::<Vec<_>>();
        // Without anything but the unit, and without that.
        let short = [frame(&[]), checked(&[])];
        [&whole[..], &data, &short, &[vec![b'x'; 70_000]]].concat()
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        PIECES
    }

    /// Every other one with the checksum that it should have had: what went wrong is the unit, not the line.
    async fn throw(&self, _address: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let bytes = match self.thrown.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => checked(&bytes[..bytes.len().saturating_sub(2)]),
            _ => bytes,
        };
        self.unit.throw(bytes, false).await
    }

    async fn lose(&self, _address: &str, half: Vec<u8>) -> Result<()> {
        self.unit.throw(half, true).await.map(drop)
    }

    /// It asks again.
    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        ensure!(answer == checked(&REQUEST), "{answer:?}");
        Ok(())
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        let whole = frame(&registers(marker));
        Some(whole[..whole.len() - 5].into())
    }
}

crate::scenarios!(Rtu);
