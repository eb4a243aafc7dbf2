//! The link to the units: one request at a time, each answered in time or not at all.

use std::io;
use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_modbus::client::{Client, Context, Writer, rtu, tcp};
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
}

/// Why a request was not answered with what it asked for.
#[derive(Debug)]
pub(super) enum Failed {
    /// By the unit, which works.
    Refused(ExceptionCode),
    /// By nobody in time, or by a gateway in its place.
    Unreachable(String),
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
            Self::Unreachable(cause) => cause.clone(),
            Self::Lost(error) => error.to_string(),
        }
    }
}

impl<'a> Link<'a> {
    pub(super) async fn open(place: &'a Place, timeout: Duration) -> Result<Self, LinkError> {
        let mut link = Self { place, timeout, context: None };
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
        self.ask(unit, async |context: &mut Context| match context.call(request).await? {
            Ok(answer) => values(answer, usize::from(count)).map(Ok),
            Err(code) => Ok(Err(code)),
        })
        .await
    }

    pub(super) async fn write(&mut self, unit: u8, write: &Write) -> Result<(), Failed> {
        self.ask(unit, async |context: &mut Context| match write {
            Write::Coils { address, values } => match values[..] {
                // Not every device knows the request for several.
                [value] => context.write_single_coil(*address, value).await,
                _ => context.write_multiple_coils(*address, values).await,
            },
            Write::Registers { address, words } => match words[..] {
                [word] => context.write_single_register(*address, word).await,
                _ => context.write_multiple_registers(*address, words).await,
            },
        })
        .await
    }

    async fn ask<T>(
        &mut self,
        unit: u8,
        request: impl AsyncFnOnce(&mut Context) -> tokio_modbus::Result<T>,
    ) -> Result<T, Failed> {
        let (timeout, name) = (self.timeout, self.name());
        let context = self.context().await.map_err(Failed::Lost)?;
        context.set_slave(Slave(unit));
        let answer = tokio::time::timeout(timeout, request(context)).await;
        let failed = match answer {
            Ok(Ok(Ok(answer))) => return Ok(answer),
            Ok(Ok(Err(ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice))) => {
                return Err(Failed::Unreachable("the gateway does not reach it".to_owned()));
            }
            Ok(Ok(Err(code))) => return Err(Failed::Refused(code)),
            Err(_) => Failed::Unreachable(format!("no answer within {} ms", timeout.as_millis())),
            Ok(Err(Error::Protocol(_))) => {
                Failed::Unreachable("the answer is not to what was asked".to_owned())
            }
            Ok(Err(Error::Transport(error))) if is_garbled(&error) => {
                Failed::Unreachable(format!("the answer is garbled: {error}"))
            }
            Ok(Err(Error::Transport(error))) => Failed::Lost(LinkError::new(format!("asking {name}"), error)),
        };
        self.context = None;
        Err(failed)
    }
}

/// As many as were asked for. The library's own methods expect that of every device.
fn values(answer: Response, count: usize) -> Result<Vec<u16>, Error> {
    let values: Vec<u16> = match answer {
        // They come in whole bytes.
        Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) => {
            bits.into_iter().map(u16::from).take(count).collect()
        }
        Response::ReadInputRegisters(words) | Response::ReadHoldingRegisters(words) => words,
        _ => Vec::new(),
    };
    if values.len() != count {
        let cause = format!("{} values where {count} were asked for", values.len());
        return Err(Error::Transport(io::Error::new(io::ErrorKind::InvalidData, cause)));
    }
    Ok(values)
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

fn is_garbled(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    // The last is the library's for an answer that is shorter than it says; how links end is told otherwise.
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
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
