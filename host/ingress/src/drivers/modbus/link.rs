//! The link to the units: one request at a time, each answered in time or not at all.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_modbus::client::{Client, Context, rtu, tcp};
use tokio_modbus::slave::{Slave, SlaveContext};
use tokio_modbus::{Error, ExceptionCode, Request, Response};

use super::command::Write;
use super::config::Place;
use super::table::{Block, Function};
use crate::{LinkError, listener};

/// For a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Link<'a> {
    place: &'a Place,
    timeout: Duration,
    /// `None` while it is to be opened anew: an answer that is late would be taken for that of the next request.
    context: Option<Context>,
    /// Of a serial line: when it will have been silent for long enough for the next request.
    quiet_at: Option<Instant>,
}

/// Why a request was not answered with what it asked for.
#[derive(Debug)]
pub(super) enum Failed {
    /// By the unit, which works.
    Refused(ExceptionCode),
    /// By nobody in time, or by a gateway in its place.
    Unreachable(String),
    /// By nobody: the connection ended. The next request opens another.
    HungUp(String),
    /// The link is lost, for all units.
    Lost(LinkError),
}

impl Failed {
    /// Whether the same request may be answered later.
    pub(super) fn is_for_now(&self) -> bool {
        let busy = [ExceptionCode::Acknowledge, ExceptionCode::ServerDeviceBusy];
        !matches!(self, Self::Refused(code) if !busy.contains(code))
    }

    /// As a person reads it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Refused(code) => exception(*code),
            Self::Unreachable(cause) | Self::HungUp(cause) => cause.clone(),
            Self::Lost(error) => error.to_string(),
        }
    }
}

impl<'a> Link<'a> {
    pub(super) async fn open(place: &'a Place, timeout: Duration) -> Result<Self, LinkError> {
        let mut link = Self { place, timeout, context: None, quiet_at: None };
        link.context().await?;
        Ok(link)
    }

    pub(super) fn name(&self) -> String {
        match self.place {
            Place::Tcp(address) => address.clone(),
            Place::Rtu(port) => port.name(),
        }
    }

    async fn context(&mut self) -> Result<&mut Context, LinkError> {
        if self.context.is_none() {
            self.context = Some(match self.place {
                Place::Tcp(address) => {
                    let (reader, writer) = connect(address).await?.into_split();
                    tcp::attach(tokio::io::join(reader.chain(HungUp), writer))
                }
                Place::Rtu(port) => {
                    let port = port.open()?;
                    port.discard_input()?;
                    rtu::attach(port)
                }
            });
        }
        // It was put there just now, if it was not there.
        self.context.as_mut().ok_or_else(|| LinkError::ended("no link"))
    }

    /// Registers, or coils as 0 and 1.
    pub(super) async fn read(&mut self, unit: u8, block: Block) -> Result<Vec<u16>, Failed> {
        let Block { function, address, count } = block;
        let request = match function {
            Function::Coil => Request::ReadCoils(address, count),
            Function::Discrete => Request::ReadDiscreteInputs(address, count),
            Function::Input => Request::ReadInputRegisters(address, count),
            Function::Holding => Request::ReadHoldingRegisters(address, count),
        };
        self.ask(unit, request, |answer| values(answer, usize::from(count))).await
    }

    pub(super) async fn write(&mut self, unit: u8, write: &Write) -> Result<(), Failed> {
        let request = match write {
            Write::Coils { address, values } => match values[..] {
                // Not every device knows the request for several.
                [value] => Request::WriteSingleCoil(*address, value),
                _ => Request::WriteMultipleCoils(*address, values.into()),
            },
            Write::Registers { address, words } => match words[..] {
                [word] => Request::WriteSingleRegister(*address, word),
                _ => Request::WriteMultipleRegisters(*address, words.into()),
            },
        };
        self.ask(unit, request, |_| Ok(())).await
    }

    /// `read` takes from the answer what was asked for; its error says what is wrong with it.
    async fn ask<T>(
        &mut self,
        unit: u8,
        request: Request<'_>,
        read: impl Fn(Response) -> Result<T, String>,
    ) -> Result<T, Failed> {
        let is_reused = self.context.is_some();
        match self.ask_once(unit, request.clone(), &read).await {
            // Gateways close connections that were quiet for a while. A write that was carried out all the same sets
            // the same values again, as it would if its command was tried again.
            Err(Failed::HungUp(_)) if is_reused => self.ask_once(unit, request, &read).await,
            asked => asked,
        }
    }

    async fn ask_once<T>(
        &mut self,
        unit: u8,
        request: Request<'_>,
        read: &impl Fn(Response) -> Result<T, String>,
    ) -> Result<T, Failed> {
        let (timeout, name) = (self.timeout, self.name());
        let (is_tcp, quiet_at) = (matches!(self.place, Place::Tcp(_)), self.quiet_at);
        let context = self.context().await.map_err(Failed::Lost)?;
        context.set_slave(Slave(unit));
        if let Some(quiet_at) = quiet_at {
            tokio::time::sleep_until(quiet_at).await;
        }
        let answer = tokio::time::timeout(timeout, context.call(request)).await;
        if let Place::Rtu(port) = self.place {
            self.quiet_at = Some(Instant::now() + gap(port.baud()));
        }
        let failed = match answer {
            Ok(Ok(Ok(answer))) => match read(answer) {
                Ok(read) => return Ok(read),
                Err(cause) => garbled(&cause),
            },
            Ok(Ok(Err(ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice))) => {
                return Err(Failed::Unreachable("the gateway does not reach it".to_owned()));
            }
            Ok(Ok(Err(code))) => return Err(Failed::Refused(code)),
            Err(_) => Failed::Unreachable(format!("no answer within {} ms", timeout.as_millis())),
            Ok(Err(Error::Protocol(_))) => {
                Failed::Unreachable("the answer is not to what was asked".to_owned())
            }
            Ok(Err(Error::Transport(error))) if is_garbled(&error) => garbled(&error),
            // A serial port that is gone stays so.
            Ok(Err(Error::Transport(error))) if is_tcp && is_hung_up(&error) => {
                Failed::HungUp(format!("asking {name}: {error}"))
            }
            Ok(Err(Error::Transport(error))) => Failed::Lost(LinkError::new(format!("asking {name}"), error)),
        };
        self.context = None;
        Err(failed)
    }
}

/// Between two frames of a serial line: 3.5 characters of 11 bits, and never below 1.75 ms (2.5.1.1 of the specification
/// for serial lines). Units take what comes sooner for the same frame, and stay silent.
fn gap(baud: u32) -> Duration {
    Duration::from_micros(38_500_000 / u64::from(baud)).max(Duration::from_micros(1750))
}

/// As many as were asked for. The library's own methods expect that of every device.
fn values(answer: Response, count: usize) -> Result<Vec<u16>, String> {
    let values: Vec<u16> = match answer {
        // They come in whole bytes.
        Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) => {
            bits.into_iter().map(u16::from).take(count).collect()
        }
        Response::ReadInputRegisters(words) | Response::ReadHoldingRegisters(words) => words,
        _ => Vec::new(),
    };
    match values.len() == count {
        true => Ok(values),
        false => Err(format!("{} values where {count} were asked for", values.len())),
    }
}

/// What is read after the end. The library takes an end for whatever the thread's last system call failed of.
#[derive(Debug)]
struct HungUp;

impl AsyncRead for HungUp {
    fn poll_read(self: Pin<&mut Self>, _: &mut Task<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the device hung up")))
    }
}

async fn connect(address: &str) -> Result<TcpStream, LinkError> {
    let connecting = || format!("connecting to {address}");
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let stream = connected
        .map_err(|_| LinkError::ended(format!("{}: no answer in time", connecting())))?
        .map_err(|error| LinkError::new(connecting(), error))?;
    listener::prepare(&stream);
    Ok(stream)
}

fn garbled(cause: &dyn fmt::Display) -> Failed {
    Failed::Unreachable(format!("the answer is garbled: {cause}"))
}

fn is_garbled(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    // The last is the library's for an answer that is shorter than it says; how links end is told otherwise.
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

fn is_hung_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
}

/// `illegal data address (exception 2)`.
fn exception(code: ExceptionCode) -> String {
    let text = match code {
        ExceptionCode::IllegalFunction => "illegal function",
        ExceptionCode::IllegalDataAddress => "illegal data address",
        ExceptionCode::IllegalDataValue => "illegal data value",
        ExceptionCode::ServerDeviceFailure => "device failure",
        ExceptionCode::Acknowledge => "accepted, and still at it",
        ExceptionCode::ServerDeviceBusy => "busy",
        ExceptionCode::MemoryParityError => "memory parity error",
        ExceptionCode::GatewayPathUnavailable => "gateway path unavailable",
        ExceptionCode::GatewayTargetDevice => "gateway target does not answer",
        ExceptionCode::Custom(_) => "refused",
    };
    format!("{text} (exception {})", u8::from(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_a_serial_line_are_three_and_a_half_characters_apart() {
        let micros = |baud| gap(baud).as_micros();
        assert_eq!((micros(1200), micros(9600), micros(115_200)), (32_083, 4010, 1750));
    }
}
