//! Modbus over TCP: a unit that the driver asks again and again. It says what is thrown, else the text in its registers;
//! with neither it is not reached, which is no reading.

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
    unit: Arc<Mutex<Unit>>,
}

#[derive(Default)]
struct Unit {
    text: Option<String>,
    thrown: VecDeque<Thrown>,
}

struct Thrown {
    answer: Vec<u8>,
    is_last: bool,
    /// What is asked next; gone if the driver gives the connection up.
    next: oneshot::Sender<Vec<u8>>,
}

struct Registers(Arc<Mutex<Unit>>);

/// With a host that is slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two characters each.
const COUNT: u8 = 12;

/// What the driver asks: unit 1, holding registers from 0, behind the number of the request.
const REQUEST: [u8; 10] = [0, 0, 0, 6, 1, 3, 0, 0, 0, COUNT];

/// To the request 0.
fn answer(function: u8, data: &[u8]) -> Vec<u8> {
    let size = u16::try_from(data.len() + 2).expect("little data").to_be_bytes();
    [&[0; 4][..], &size, &[1, function], data].concat()
}

fn registers(text: &str) -> Vec<u8> {
    let mut data = text.as_bytes().to_vec();
    data.resize(2 * usize::from(COUNT), 0);
    answer(3, &[&[2 * COUNT][..], &data].concat())
}

fn exception(code: u8) -> Vec<u8> {
    answer(0x83, &[code])
}

enum Said {
    Nothing,
    Text(String),
    Thrown(oneshot::Sender<Vec<u8>>),
}

impl Unit {
    /// To what is asked now, and whether it is the connection's end.
    fn answer(&mut self) -> (Vec<u8>, bool, Said) {
        match (self.thrown.pop_front(), &self.text) {
            (Some(Thrown { answer, is_last, next }), _) => (answer, is_last, Said::Thrown(next)),
            (None, Some(text)) => (registers(text), false, Said::Text(text.clone())),
            // A gateway that does not reach it.
            (None, None) => (exception(11), false, Said::Nothing),
        }
    }
}

async fn serve(listener: TcpListener, unit: Arc<Mutex<Unit>>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(converse(stream, Arc::clone(&unit)));
    }
}

async fn converse(mut stream: TcpStream, unit: Arc<Mutex<Unit>>) -> Result<()> {
    let mut said = Said::Nothing;
    loop {
        let mut request = [0; 12];
        stream.read_exact(&mut request).await?;
        match said {
            // Over the same connection it is asked again once the answer was taken.
            Said::Text(text) => drop(unit.lock().text.take_if(|current| *current == text)),
            Said::Thrown(next) => drop(next.send(request.into())),
            Said::Nothing => {}
        }
        let (mut answer, is_last, now) = unit.lock().answer();
        answer.iter_mut().zip(&request[..2]).for_each(|(byte, number)| *byte ^= number);
        stream.write_all(&answer).await?;
        if is_last {
            return Ok(stream.set_zero_linger()?);
        }
        said = now;
    }
}

impl Modbus {
    /// Answers the next request so; what is asked after it.
    async fn answer(&self, answer: Vec<u8>, is_last: bool) -> Result<Vec<u8>> {
        let (next, asked) = oneshot::channel();
        self.unit.lock().thrown.push_back(Thrown { answer, is_last, next });
        let asked = tokio::time::timeout(PATIENCE, asked).await.context("it asks no more")?;
        Ok(asked.unwrap_or_default())
    }
}

impl Protocol for Modbus {
    const DRIVER: &'static str = "modbus";
    const CONNECTIONS: usize = 1;
    type Client = Registers;

    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, unit) = (listener.local_addr()?.to_string(), Arc::<Mutex<Unit>>::default());
        tokio::spawn(serve(listener, Arc::clone(&unit)));
        Ok(Self { address, unit })
    }

    /// Whoever answers half is waited for.
    fn settings(&self) -> String {
        format!(
            "connect = \"{}\"\ninterval_ms = 5\ntimeout_ms = 50\n[[ingress.it.units]]\nunit = 1\nvalues = [\
             {{ name = \"text\", function = \"holding\", address = 0, type = \"string\", registers = {COUNT} }}]\n",
            self.address
        )
    }

    async fn connect(&self, _address: &str) -> Result<Registers> {
        Ok(Registers(Arc::clone(&self.unit)))
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        vec![registers("21.5"), registers("\u{fc}ber 22.5 \u{b0}C"), exception(2), exception(6)]
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        let right = registers("21.5");
        let with = |at: usize, byte: u8| {
            let mut wrong = right.clone();
            wrong[at] = byte;
            wrong
        };
        vec![
            Vec::new(),
            right[..5].to_vec(),
            right[..right.len() - 1].to_vec(),
            right.repeat(2),
            // Another request, protocol, length, unit, function, count.
            with(1, 1),
            with(3, 1),
            with(4, 0xff),
            with(5, 0),
            with(5, 1),
            with(6, 2),
            with(7, 4),
            with(7, 0x7f),
            with(8, 0),
            with(8, 23),
            with(8, 0xff),
            answer(3, &[]),
            answer(3, &[&[250][..], &[b'x'; 250]].concat()),
            exception(0),
            exception(0xff),
            answer(0x83, &[]),
            vec![b'x'; 70_000],
        ]
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        &[b"\0", b"\xff\xff", b"\x83", b"\x01\x03", b"\0\0\0\x06", b"\x18", b"\x80\x0b"]
    }

    async fn throw(&self, _address: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
        self.answer(bytes, false).await
    }

    async fn lose(&self, _address: &str, half: Vec<u8>) -> Result<()> {
        self.answer(half, true).await.map(drop)
    }

    /// It asks again, over this connection or another one.
    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        ensure!(answer.is_empty() || answer.get(2..) == Some(&REQUEST), "{answer:?}");
        Ok(())
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        let whole = registers(marker);
        Some(whole[..whole.len() - 5].into())
    }
}

impl Client for Registers {
    async fn send(&mut self, text: &str) -> Result<Told> {
        self.0.lock().text = Some(text.to_owned());
        Ok(Told::Nothing)
    }
}

crate::scenarios!(Modbus);
