//! Serial ports: what drivers that speak over one share. A port is named by its path, or by the USB device that it
//! belongs to, which survives its being plugged in elsewhere.

mod line;
mod usb;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use sandbar_reading::ConfigError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_serial::{SerialPortBuilder, SerialStream};

pub(crate) use self::line::{FlowControl, LineMode};
use self::usb::UsbId;
use crate::LinkError;

/// A port as it is configured.
#[derive(Clone, Debug)]
pub(crate) struct SerialPort {
    place: Place,
    baud: u32,
    mode: LineMode,
    flow_control: FlowControl,
}

#[derive(Clone, Debug)]
enum Place {
    Path(PathBuf),
    Usb(UsbId),
}

/// Where the kernel lists serial ports.
const TTYS: &str = "/sys/class/tty";

impl SerialPort {
    /// `port` is a path, or a USB id: `0403:6001` or, with the device's serial number, `0403:6001:A50285BI`. Errors name
    /// the settings `port`, `baud` and `mode`.
    pub(crate) fn new(
        port: &str,
        baud: u32,
        mode: &str,
        flow_control: FlowControl,
    ) -> Result<Self, ConfigError> {
        let place = match port.parse::<UsbId>() {
            Ok(id) => Place::Usb(id),
            Err(_) if port.contains('/') => Place::Path(port.into()),
            Err(_) => {
                let problem = "must be a path such as /dev/ttyUSB0, or a USB id such as 0403:6001";
                return Err(ConfigError::at("port", problem));
            }
        };
        if baud == 0 {
            return Err(ConfigError::at("baud", "must be above 0"));
        }
        Ok(Self {
            place,
            baud,
            mode: mode.parse().map_err(|error| ConfigError::at("mode", error))?,
            flow_control,
        })
    }

    /// Bits per second.
    pub(crate) fn baud(&self) -> u32 {
        self.baud
    }

    /// As configured, for messages.
    pub(crate) fn name(&self) -> String {
        match &self.place {
            Place::Path(path) => path.display().to_string(),
            Place::Usb(id) => format!("USB device {id}"),
        }
    }

    /// Opens it, for nobody else to open. The error names the port.
    pub(crate) fn open(&self) -> Result<PortStream, LinkError> {
        let opening = |problem: String| LinkError::ended(format!("opening {}: {problem}", self.name()));
        let path = match &self.place {
            Place::Path(path) => path.clone(),
            Place::Usb(id) => id.find(Path::new(TTYS)).map_err(|error| opening(error.to_string()))?,
        };
        if !path.exists() {
            return Err(opening("there is no such device".to_owned()));
        }
        let stream =
            SerialStream::open(&self.builder(&path)).map_err(|error| opening(self.problem(&path, &error)))?;
        Ok(PortStream { stream, path })
    }

    fn builder(&self, path: &Path) -> SerialPortBuilder {
        let builder = tokio_serial::new(path.to_string_lossy(), self.baud);
        self.flow_control.set(self.mode.set(builder))
    }

    fn problem(&self, path: &Path, error: &tokio_serial::Error) -> String {
        let path = match &self.place {
            Place::Path(_) => String::new(),
            Place::Usb(_) => format!("{}: ", path.display()),
        };
        match error.kind() {
            tokio_serial::ErrorKind::Io(std::io::ErrorKind::PermissionDenied) => {
                format!("{path}permission denied; is this user in the group of the device, often `dialout`?")
            }
            _ => format!("{path}{error}"),
        }
    }
}

/// An open port. That it was unplugged shows as the end of the stream, or as an error.
#[derive(Debug)]
pub(crate) struct PortStream {
    stream: SerialStream,
    path: PathBuf,
}

impl PortStream {
    /// The one that was opened: for a USB id, the one that was found.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Forgets what has arrived and was not read.
    pub(crate) fn discard_input(&self) -> Result<(), LinkError> {
        use tokio_serial::SerialPort as _;
        self.stream
            .clear(tokio_serial::ClearBuffer::Input)
            .map_err(|error| LinkError::new(format!("clearing {}", self.path.display()), error))
    }
}

impl AsyncRead for PortStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PortStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    /// The library's own waits, with a thread of the runtime, until the last bit is on the wire.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
