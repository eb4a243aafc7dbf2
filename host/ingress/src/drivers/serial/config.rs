//! Settings of a serial ingress, and what is refused of them.

use sandbar_reading::{ConfigError, Framing, Octets};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::naming::Naming;
use crate::serial_port::{FlowControl, SerialPort};
use crate::stream::{Nature, Options, Settings};
use crate::written::CommandForm;

/// Takes frames from a serial port, and writes replies and commands to it, framed the same way. A port that is
/// unplugged is opened again when it is back. A serial line acknowledges nothing by itself: with `acknowledge`, the
/// device learns that its reading is on disk. While the host cannot take more, nothing is read (or, with `refuse`, the
/// device is told). What is no frame is passed over. Readings have the attribute `serial.port`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The port: a path such as `/dev/ttyUSB0`, or the USB device it belongs to, `vendor:product` with the device's
    /// serial number where there are several of a kind: `0403:6001` or `0403:6001:A50285BI`. A path below
    /// `/dev/serial/by-id` does not change either when it is plugged in elsewhere.
    port: String,
    /// Bits per second.
    #[serde(default = "default::baud")]
    baud: u32,
    /// Data bits (5 to 8), parity (N, E or O) and stop bits (1 or 2).
    #[serde(default = "default::mode")]
    mode: String,
    /// How one side tells the other to wait: `none`, `software` (XON, XOFF) or `hardware` (RTS, CTS).
    #[serde(default)]
    flow_control: FlowControl,
    /// Where a frame, which is one reading, ends: `raw`, `lines` (the default), `length`, `fixed` or
    /// `delimiter`; see the table below.
    #[serde(default)]
    framing: Framing,
    /// Milliseconds of silence that end a frame, too. With `raw` what arrives without such a silence is one frame, at most
    /// `frame_max` long; a line without its end is one; a frame of a known length that is not whole by then is dropped.
    #[serde(default)]
    read_timeout_ms: Option<u64>,
    /// The most bytes of a frame; not more than the host's limit of a reading, which is the default. Longer ones
    /// are passed over, and told of if there is `refuse`.
    #[serde(default)]
    frame_max: Option<usize>,
    /// Topic of the readings. `{device}` is the reading's.
    #[serde(default = "default::topic")]
    topic: String,
    /// Device of the readings, which is also where its commands go.
    #[serde(default)]
    device: Option<String>,
    /// Where JSON payloads name the device, as a JSON pointer: `/id`.
    #[serde(default)]
    device_pointer: Option<String>,
    /// Content type of the readings. The default is `text/plain` for lines, else `application/octet-stream`.
    #[serde(default)]
    content_type: Option<String>,
    /// Written to the port, as it is, for every reading that is on disk; `{id}` is the reading's id. A text such as
    /// `"OK {id}\n"`, or bytes such as `{ hex = "06" }`.
    #[serde(default)]
    acknowledge: Option<Octets>,
    /// Written to the port, as it is, for every frame that is not taken; `{reason}` says why. Without it, a frame that
    /// is refused for a time is held back until it is taken, and nothing more is read meanwhile.
    #[serde(default)]
    refuse: Option<Octets>,
    /// What is written of a command.
    #[serde(default)]
    commands: CommandForm,
    /// Milliseconds after which a handler's reply is not waited for any more.
    #[serde(default = "default::reply_timeout_ms")]
    reply_timeout_ms: u64,
    /// Milliseconds without a frame after which the port is closed and opened again, for adapters that fall silent.
    #[serde(default)]
    idle_timeout_ms: Option<u64>,
}

mod default {
    pub(super) fn baud() -> u32 {
        9600
    }

    pub(super) fn mode() -> String {
        "8N1".to_owned()
    }

    pub(super) fn topic() -> String {
        "serial".to_owned()
    }

    pub(super) fn reply_timeout_ms() -> u64 {
        10_000
    }
}

impl Config {
    pub(super) fn port(&self) -> Result<SerialPort, ConfigError> {
        SerialPort::new(&self.port, self.baud, &self.mode, self.flow_control)
    }

    pub(super) fn settings(&self) -> Result<Settings, ConfigError> {
        let (device, pointer) = (self.device.as_deref(), self.device_pointer.as_deref());
        let options = Options {
            nature: Nature::Line,
            framing: &self.framing,
            frame_max: self.frame_max,
            naming: Naming::without_address(&self.topic, device, pointer)?,
            content_type: self.content_type.as_deref(),
            acknowledge: self.acknowledge.as_ref(),
            refuse: self.refuse.as_ref(),
            commands: self.commands,
            reply_timeout_ms: self.reply_timeout_ms,
            frame_timeout_ms: None,
            idle_timeout_ms: self.idle_timeout_ms,
            read_timeout_ms: self.read_timeout_ms,
        };
        options.settings()
    }
}
