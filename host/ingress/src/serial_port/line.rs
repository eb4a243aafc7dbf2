//! How bits go over a line.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio_serial::{DataBits, Parity, SerialPortBuilder, StopBits};

/// Data bits, parity and stop bits, as everybody writes them: `8N1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineMode {
    data_bits: DataBits,
    parity: Parity,
    stop_bits: StopBits,
}

/// Who says when the other may not send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FlowControl {
    /// Nobody.
    #[default]
    None,
    /// The bytes XON (0x11) and XOFF (0x13), which are then no data.
    Software,
    /// The lines RTS and CTS.
    Hardware,
}

impl LineMode {
    pub(super) fn set(self, builder: SerialPortBuilder) -> SerialPortBuilder {
        builder.data_bits(self.data_bits).parity(self.parity).stop_bits(self.stop_bits)
    }
}

impl FlowControl {
    pub(super) fn set(self, builder: SerialPortBuilder) -> SerialPortBuilder {
        builder.flow_control(match self {
            Self::None => tokio_serial::FlowControl::None,
            Self::Software => tokio_serial::FlowControl::Software,
            Self::Hardware => tokio_serial::FlowControl::Hardware,
        })
    }
}

impl FromStr for LineMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let [data, parity, stop] = text.as_bytes() else { return None };
            Some(Self {
                data_bits: match data {
                    b'5' => DataBits::Five,
                    b'6' => DataBits::Six,
                    b'7' => DataBits::Seven,
                    b'8' => DataBits::Eight,
                    _ => return None,
                },
                parity: match parity {
                    b'N' | b'n' => Parity::None,
                    b'E' | b'e' => Parity::Even,
                    b'O' | b'o' => Parity::Odd,
                    _ => return None,
                },
                stop_bits: match stop {
                    b'1' => StopBits::One,
                    b'2' => StopBits::Two,
                    _ => return None,
                },
            })
        };
        read().ok_or_else(|| {
            format!(
                "`{text}` is not data bits (5 to 8), parity (N, E or O) and stop bits (1 or 2), such as 8N1"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_everybody_does() {
        let mode = |text: &str| text.parse::<LineMode>();
        let seven_even_two =
            LineMode { data_bits: DataBits::Seven, parity: Parity::Even, stop_bits: StopBits::Two };
        assert_eq!((mode("7E2"), mode("7e2")), (Ok(seven_even_two), Ok(seven_even_two)));
        for wrong in ["", "8N", "9N1", "8N3", "8X1", "8N1 ", "8-N-1"] {
            let error = mode(wrong).unwrap_err();
            assert!(error.contains("such as 8N1"), "{error}");
        }
    }
}
