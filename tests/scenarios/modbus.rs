//! Modbus over TCP: a unit that the driver asks again and again. It says what is thrown, else the text in its registers,
//! again and again; with neither it is not reached, which is no reading.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::protocol::{Client, Protocol, Told};

struct Modbus {
    address: String,
    unit: Unit,
}

/// Wherever it is.
#[derive(Clone, Default)]
pub(crate) struct Unit(Arc<Mutex<Says>>);

#[derive(Default)]
struct Says {
    text: Option<String>,
    thrown: VecDeque<Answer>,
}

pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    /// The link is lost of it.
    pub(crate) is_last: bool,
    /// Where what is asked next is told; gone if it is asked over another link.
    pub(crate) next: Option<oneshot::Sender<Vec<u8>>>,
}

/// With a host that is slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two characters each.
const COUNT: u8 = 12;

/// What the driver asks: unit 1, holding registers from 0.
pub(crate) const REQUEST: [u8; 6] = [1, 3, 0, 0, 0, COUNT];

pub(crate) fn registers(text: &str) -> Vec<u8> {
    let mut data = text.as_bytes().to_vec();
    data.resize(2 * usize::from(COUNT), 0);
    [&[3, 2 * COUNT][..], &data].concat()
}

fn exception(code: u8) -> Vec<u8> {
    vec![0x83, code]
}

/// What a unit might say.
pub(crate) fn right() -> Vec<Vec<u8>> {
    vec![registers("21.5"), registers("\u{fc}ber 22.5 \u{b0}C"), exception(2), exception(6)]
}

/// What no unit says to what it is asked.
pub(crate) fn wrong() -> Vec<Vec<u8>> {
    let right = registers("21.5");
    let with = |at: usize, byte: u8| {
        let mut wrong = right.clone();
        wrong[at] = byte;
        wrong
    };
    vec![
        right[..right.len() - 1].to_vec(),
        // Another function, another count.
        with(0, 4),
        with(0, 0x7f),
        with(1, 0),
        with(1, 23),
        with(1, 0xff),
        vec![3],
        [&[3, 250][..], &[b'x'; 250]].concat(),
        exception(0),
        exception(0xff),
        vec![0x83],
    ]
}

/// `place` says where the unit is. Whoever answers half is waited for.
pub(crate) fn settings(place: &str) -> String {
    format!(
        "{place}\ninterval_ms = 5\ntimeout_ms = 30\n[[ingress.it.units]]\nunit = 1\nvalues = [\
         {{ name = \"text\", function = \"holding\", address = 0, type = \"string\", registers = {COUNT} }}]\n"
    )
}

impl Unit {
    /// What it says now; `frame` makes a frame of what has none.
    pub(crate) fn answer(&self, frame: fn(&[u8]) -> Vec<u8>) -> Answer {
        let mut says = self.0.lock();
        says.thrown.pop_front().unwrap_or_else(|| {
            // A gateway that does not reach it.
            let data = says.text.as_deref().map_or_else(|| exception(11), registers);
            Answer { bytes: frame(&data), is_last: false, next: None }
        })
    }

    /// Says these bytes once. Returns what is asked next over the same link.
    pub(crate) async fn throw(&self, bytes: Vec<u8>, is_last: bool) -> Result<Vec<u8>> {
        let (next, asked) = oneshot::channel();
        self.0.lock().thrown.push_back(Answer { bytes, is_last, next: Some(next) });
        let asked = tokio::time::timeout(PATIENCE, asked).await.context("it asks no more")?;
        Ok(asked.unwrap_or_default())
    }
}

/// To the request 0.
fn frame(data: &[u8]) -> Vec<u8> {
    let size = u16::try_from(data.len() + 1).expect("little data").to_be_bytes();
    [&[0; 4][..], &size, &[1], data].concat()
}

async fn converse(mut stream: TcpStream, unit: Unit) -> Result<()> {
    let mut asked: Option<oneshot::Sender<Vec<u8>>> = None;
    loop {
        let mut request = [0; 12];
        stream.read_exact(&mut request).await?;
        if let Some(asked) = asked {
            drop(asked.send(request.into()));
        }
        let Answer { mut bytes, is_last, next } = unit.answer(frame);
        bytes.iter_mut().zip(&request[..2]).for_each(|(byte, number)| *byte ^= number);
        stream.write_all(&bytes).await?;
        if is_last {
            return Ok(stream.set_zero_linger()?);
        }
        asked = next;
    }
}

impl Protocol for Modbus {
    const DRIVER: &'static str = "modbus";
    const CONNECTIONS: usize = 1;
    type Client = Unit;

    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, unit) = (listener.local_addr()?.to_string(), Unit::default());
        let served = unit.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, served.clone()));
            }
        });
        Ok(Self { address, unit })
    }

    fn settings(&self) -> String {
        settings(&format!("connect = \"{}\"", self.address))
    }

    async fn connect(&self, _address: &str) -> Result<Unit> {
        Ok(self.unit.clone())
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        right().iter().map(|data| frame(data)).collect()
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        let right = frame(&registers("21.5"));
        let with = |at: usize, byte: u8| {
            let mut wrong = right.clone();
            wrong[at] = byte;
            wrong
        };
        // Another request, protocol, length, unit.
        let head = [with(1, 1), with(3, 1), with(4, 0xff), with(5, 0), with(5, 1), with(6, 2)];
        let whole = [vec![], right[..5].to_vec(), right[..right.len() - 1].to_vec(), right.repeat(2)];
        let data = wrong().iter().map(|data| frame(data)).collect::<Vec<_>>();
        [&head[..], &whole, &data, &[vec![b'x'; 70_000]]].concat()
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        PIECES
    }

    async fn throw(&self, _address: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
        self.unit.throw(bytes, false).await
    }

    async fn lose(&self, _address: &str, half: Vec<u8>) -> Result<()> {
        self.unit.throw(half, true).await.map(drop)
    }

    /// It asks again, over this connection or another one.
    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        let asked = [&[0, 0, 0, 6], &REQUEST[..]].concat();
        ensure!(answer.is_empty() || answer.get(2..) == Some(&asked[..]), "{answer:?}");
        Ok(())
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        let whole = frame(&registers(marker));
        Some(whole[..whole.len() - 5].into())
    }
}

pub(crate) const PIECES: &[&[u8]] =
    &[b"\0", b"\xff\xff", b"\x83", b"\x01\x03", b"\0\0\0\x06", b"\x18", b"\x80\x0b"];

impl Client for Unit {
    async fn send(&mut self, text: &str) -> Result<Told> {
        self.0.lock().text = Some(text.to_owned());
        Ok(Told::Nothing)
    }
}

crate::scenarios!(Modbus);
