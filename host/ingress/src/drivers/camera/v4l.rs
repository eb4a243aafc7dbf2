//! Cameras on this machine (Video for Linux 2). Its calls block: they have a thread of their own.

use std::time::{Duration, Instant};

use bytes::Bytes;
use moq_v4l::buffer::{Flags, Metadata, Type};
use moq_v4l::capability::Flags as Able;
use moq_v4l::format::{Colorspace, Quantization};
use moq_v4l::io::mmap::Stream;
use moq_v4l::io::traits::{CaptureStream, Stream as _};
use moq_v4l::video::Capture;
use moq_v4l::{Device, Format, FourCC};
use tokio::sync::{mpsc, oneshot};

use super::config::Local;
use super::frames::{Asks, Frames, frames};
use super::jpeg::{self, Picture};
use super::yuyv::{Range, Yuyv};
use crate::LinkError;

/// How many pictures the kernel may fill ahead.
const BUFFERS: u32 = 4;

/// How often it is looked whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// `POLLIN` of poll(2): the same on every Linux.
const READABLE: i16 = 1;

const MJPG: FourCC = FourCC { repr: *b"MJPG" };
const YUYV: FourCC = FourCC { repr: *b"YUYV" };

/// Resolves once the camera makes pictures.
pub(super) async fn open(local: &Local, timeout: Duration) -> Result<Frames, LinkError> {
    let (frames, asks, end) = frames();
    let (opened, is_open) = oneshot::channel();
    let camera = Camera { local: local.clone(), timeout };
    let taking = move || {
        if let Err(lost) = camera.run(asks, opened) {
            // Whoever asked may be gone.
            drop(end.send(lost));
        }
    };
    let started = std::thread::Builder::new().name("sandbar-camera".to_owned()).spawn(taking);
    started.map_err(|error| LinkError::new("starting to take pictures", error))?;
    let mut frames = frames;
    match is_open.await {
        Ok(()) => Ok(frames),
        Err(_) => Err(frames.lost().await),
    }
}

struct Camera {
    local: Local,
    timeout: Duration,
}

impl Camera {
    /// Until nobody can ask any more.
    fn run(&self, mut asks: Asks, opened: oneshot::Sender<()>) -> Result<(), LinkError> {
        let device = Device::with_path(&self.local.path).map_err(|error| self.failed("", error))?;
        let format = self.choose(&device)?;
        let mut stream = Stream::with_buffers(&device, Type::VideoCapture, BUFFERS)
            .map_err(|error| self.failed(" gives no pictures", error))?;
        start(&mut stream).map_err(|error| self.failed(" gives no pictures", error))?;
        let _ = opened.send(());
        let mut asked: Option<oneshot::Sender<Picture>> = None;
        let mut due = Instant::now() + self.timeout;
        loop {
            if asked.is_none() {
                match asks.try_recv() {
                    Ok(ask) => asked = Some(ask),
                    Err(mpsc::error::TryRecvError::Empty) => {}
                    Err(mpsc::error::TryRecvError::Disconnected) => return Ok(()),
                }
            } else if asks.is_closed() {
                return Ok(());
            }
            // Also of one that gives broken ones all the time.
            if Instant::now() >= due {
                let (shown, millis) = (self.local.path.display(), self.timeout.as_millis());
                return Err(LinkError::ended(format!(
                    "the camera {shown} gave no picture within {millis} ms"
                )));
            }
            if !self.is_readable(&stream)? {
                continue;
            }
            let (bytes, about) = stream.next().map_err(|error| self.failed(" is lost", error))?;
            if about.flags.contains(Flags::ERROR) {
                continue;
            }
            if let Some(ask) = asked.take() {
                match self.picture(&format, bytes, about) {
                    // Who asked may have given up.
                    Ok(picture) => drop(ask.send(picture)),
                    // The first ones of many a camera are none.
                    Err(error) => {
                        tracing::debug!(camera = %self.local.path.display(), error, "no picture");
                        asked = Some(ask);
                        continue;
                    }
                }
            }
            due = Instant::now() + self.timeout;
        }
    }

    fn is_readable(&self, stream: &Stream<'_>) -> Result<bool, LinkError> {
        let millis = i32::try_from(LOOK_EVERY.as_millis()).unwrap_or(i32::MAX);
        match stream.handle().poll(READABLE, millis) {
            Ok(ready) => Ok(ready > 0),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(self.failed(" is lost", error)),
        }
    }

    /// JPEG if there is, else YUYV.
    fn choose(&self, device: &Device) -> Result<Format, LinkError> {
        let able = device.query_caps().map_err(|error| self.failed(" is no camera", error))?.capabilities;
        if !able.contains(Able::VIDEO_CAPTURE | Able::STREAMING) {
            let shown = self.local.path.display();
            return Err(LinkError::ended(format!("{shown} is no camera: it takes no pictures")));
        }
        let offered = device.enum_formats().map_err(|error| self.failed(" names no formats", error))?;
        let offers = |format: &FourCC| offered.iter().any(|offer| offer.fourcc == *format);
        let Some(wanted) = [MJPG, YUYV].into_iter().find(offers) else {
            let names: Vec<String> = offered.iter().map(|offer| offer.fourcc.to_string()).collect();
            let (shown, names) = (self.local.path.display(), names.join(", "));
            return Err(LinkError::ended(format!(
                "the camera {shown} gives neither MJPG nor YUYV, but {names}"
            )));
        };
        let wanted = Format::new(self.local.width.into(), self.local.height.into(), wanted);
        let format = device.set_format(&wanted).map_err(|error| self.failed(" refuses its format", error))?;
        match format.fourcc == wanted.fourcc {
            true => Ok(format),
            false => {
                let (shown, fourcc) = (self.local.path.display(), format.fourcc);
                Err(LinkError::ended(format!("the camera {shown} is in use, with {fourcc}")))
            }
        }
    }

    fn picture(&self, format: &Format, bytes: &[u8], about: &Metadata) -> Result<Picture, String> {
        let bytes = bytes.get(..about.bytesused as usize).unwrap_or(bytes);
        let jpeg = match format.fourcc == MJPG {
            true => Bytes::copy_from_slice(bytes),
            false => {
                let pixels =
                    |count: u32| u16::try_from(count).map_err(|_| format!("{count} pixels are too many"));
                let picture = Yuyv {
                    bytes,
                    width: pixels(format.width)?,
                    height: pixels(format.height)?,
                    stride: format.stride as usize,
                    range: range(format),
                };
                picture.encode(self.local.quality).map_err(|error| error.to_string())?.into()
            }
        };
        jpeg::check(&jpeg).map_err(|error| error.to_string())
    }

    fn failed(&self, how: &str, error: std::io::Error) -> LinkError {
        LinkError::new(format!("the camera {}{how}", self.local.path.display()), error)
    }
}

/// So that no call waits for a picture: the first buffer is left to [`CaptureStream::next`], which hands back the last
/// one before it takes one.
fn start(stream: &mut Stream<'_>) -> std::io::Result<()> {
    for index in 1..BUFFERS as usize {
        // A driver may give fewer than it is asked for.
        if index > 1 && CaptureStream::queue(stream, index).is_err() {
            break;
        } else if index == 1 {
            CaptureStream::queue(stream, index)?;
        }
    }
    stream.start()
}

/// What V4L2 means by its default: the full range in what comes from a JPEG, the limited one else.
fn range(format: &Format) -> Range {
    match (format.quantization, format.colorspace) {
        (Quantization::FullRange, _) | (Quantization::Default, Colorspace::JPEG) => Range::Full,
        _ => Range::Limited,
    }
}
