//! Ids: 128 bits, sortable by time of acceptance, unique across hosts (ULID: 48 bits of milliseconds,
//! 80 bits of randomness that count upwards within a millisecond). Text form: 26 characters of
//! Crockford's base 32.

use std::fmt;
use std::str::FromStr;

use ulid::Ulid;

use crate::Timestamp;

#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not an id: 26 characters of 0-9 and A-Z without I, L, O, U")]
pub struct IdError {
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            pub const fn from_u128(bits: u128) -> Self {
                Self(bits)
            }

            pub const fn as_u128(self) -> u128 {
                self.0
            }

            /// The text form, written into `buffer`: no allocation.
            pub fn encode(self, buffer: &mut [u8; 26]) -> &str {
                Ulid(self.0).array_to_str(buffer)
            }

            /// The smallest id that a reading accepted at `time` can have.
            pub const fn first_at(time: Timestamp) -> Self {
                Self((time.millis() as u128) << 80)
            }

            /// When it was given out, to the millisecond.
            pub const fn time(self) -> Timestamp {
                Timestamp::from_millis((self.0 >> 80) as u64)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_id(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                read_id(text).map(Self)
            }
        }
    };
}

fn write_id(bits: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0; ulid::ULID_LEN];
    f.pad(Ulid(bits).array_to_str(&mut text))
}

fn read_id(text: &str) -> Result<u128, IdError> {
    Ulid::from_string(text).map(|ulid| ulid.0).map_err(|_| IdError { text: text.to_owned() })
}

id! {
    /// Names a reading; the same at every attempt to handle it.
    ReadingId
}
id! {
    /// Names a delivery; the same at every attempt to deliver it: the idempotency id that sinks pass on.
    DeliveryId
}
id! {
    /// Names a dead letter.
    DeadLetterId
}

/// Gives out ids that only ever grow, also when the clock jumps back.
#[derive(Debug)]
pub struct IdGenerator {
    last: u128,
}

impl IdGenerator {
    /// Continues after `last`, the greatest id that was ever given out here (0 if none was).
    pub const fn after(last: u128) -> Self {
        Self { last }
    }

    /// `random` supplies the low 80 bits of the first id of a millisecond.
    pub fn next(&mut self, now: Timestamp, random: impl FnOnce() -> u128) -> u128 {
        let millis = u128::from(now.millis()) & ((1 << 48) - 1);
        // The upper half stays free, so that a millisecond can count through 2^79 ids.
        let fresh = (millis << 80) | (random() & ((1 << 79) - 1));
        self.last = if millis > (self.last >> 80) { fresh } else { self.last + 1 };
        self.last
    }

    pub const fn last(&self) -> u128 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_when_the_clock_stands_still_or_jumps_back() {
        let mut ids = IdGenerator::after(0);
        let mut last = 0;
        for millis in [5, 5, 5, 4, 1, 6, 6, 400, 2] {
            let id = ids.next(Timestamp::from_millis(millis), || u128::MAX);
            assert!(id > last, "{millis}");
            last = id;
        }
    }

    #[test]
    fn survives_its_text_form() {
        let id =
            ReadingId::from_u128(IdGenerator::after(0).next(Timestamp::from_millis(1_700_000_000_000), || 7));
        assert_eq!(id.to_string().parse::<ReadingId>().unwrap(), id);
        assert_eq!(id.time(), Timestamp::from_millis(1_700_000_000_000));
        assert!(id >= ReadingId::first_at(id.time()));
    }

    #[test]
    fn refuses_what_is_no_id() {
        for text in ["", "01", "01ARZ3NDEKTSV4RRFFQ69G5FAVX", "01ARZ3NDEKTSV4RRFFQ69G5FA!"] {
            assert!(text.parse::<ReadingId>().is_err(), "{text}");
        }
    }
}
