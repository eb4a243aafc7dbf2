//! What a sender is told of its request and its reading. Pure.

use sandbar_reading::{Message, Refused};

use super::formats;
use super::packet::{self, Code, Opt, Packet, problem, response};

/// What of a request is known here beside its path: a critical option that is not is refused.
const KNOWN: [u16; 7] = [3, 7, 11, 15, 17, 23, 27];

/// Seconds after which a sender may try again when the host cannot say.
const RETRY_LATER_S: u32 = 10;

/// What is wrong with a request whatever it asks for; else its path.
pub(crate) fn path(packet: &Packet) -> Result<String, Packet> {
    if packet.get_first_option(Opt::ProxyUri).is_some() || packet.get_first_option(Opt::ProxyScheme).is_some()
    {
        return Err(problem(Code::ProxyingNotSupported, "this is no proxy"));
    }
    if let Some(number) = packet::unknown_critical(packet, &KNOWN) {
        return Err(problem(Code::BadOption, &format!("option {number} is not understood")));
    }
    packet::path(packet).ok_or_else(|| problem(Code::BadRequest, "the path is no text"))
}

/// It is on disk.
pub(crate) fn taken() -> Packet {
    response(Code::Changed)
}

pub(crate) fn refused(refused: &Refused) -> Packet {
    let unavailable = |text: &str, seconds: u32| {
        let mut answer = problem(Code::ServiceUnavailable, text);
        packet::set_uint(&mut answer, Opt::MaxAge, seconds);
        answer
    };
    match refused {
        Refused::Busy { retry_after } => {
            // Rounded up: who comes back early is refused again.
            let seconds = retry_after.as_millis().div_ceil(1000).clamp(1, 3600) as u32;
            unavailable("too much is waiting", seconds)
        }
        Refused::TooLarge { limit, .. } => {
            let mut answer = problem(Code::RequestEntityTooLarge, "more than a reading may have");
            packet::set_uint(&mut answer, Opt::Size1, u32::try_from(*limit).unwrap_or(u32::MAX));
            answer
        }
        Refused::DiskFull => unavailable("the disk is full", RETRY_LATER_S),
        // The cause is for the operator, who finds it in the log.
        Refused::Storage { .. } => unavailable("the storage fails", RETRY_LATER_S),
        Refused::Stopping => unavailable("shutting down", RETRY_LATER_S),
    }
}

/// A handler's reply: the attribute `coap.code` says which code it is (default 2.04), such as `2.05` or `4.04`.
pub(crate) fn of_handler(message: &Message) -> Packet {
    let code = match message.attributes.get("coap.code") {
        None => Some(u8::from(packet::MessageClass::Response(Code::Changed))),
        Some(text) => code(text),
    };
    let Some(code) = code else {
        return problem(
            Code::InternalServerError,
            "the reading was taken; its handler's reply has no code that can be",
        );
    };
    let mut answer = Packet::new();
    answer.header.code = code.into();
    if let Some(format) = formats::format(&message.content_type) {
        packet::set_uint(&mut answer, Opt::ContentFormat, format.into());
    }
    answer.payload = message.payload.to_vec();
    answer
}

/// `4.04`: of the classes 2, 4 and 5.
fn code(text: &str) -> Option<u8> {
    let (class, detail) = text.split_once('.')?;
    let (class, detail): (u8, u8) = (class.parse().ok()?, detail.parse().ok()?);
    let is_code = matches!(class, 2 | 4 | 5) && detail < 32 && text.len() == 4;
    is_code.then_some(class << 5 | detail)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sandbar_reading::{Attributes, ContentType};

    use super::*;

    #[test]
    fn refusals_say_when_to_come_again() {
        let told = |refusal: Refused| {
            let answer = refused(&refusal);
            let (age, size) = (packet::uint(&answer, Opt::MaxAge), packet::uint(&answer, Opt::Size1));
            format!("{} {age:?} {size:?}", answer.header.code)
        };
        assert_eq!(told(Refused::Busy { retry_after: Duration::from_millis(1500) }), "5.03 Some(2) None");
        assert_eq!(told(Refused::TooLarge { size: 5, limit: 4 }), "4.13 None Some(4)");
        assert_eq!(told(Refused::DiskFull), "5.03 Some(10) None");
    }

    #[test]
    fn a_handler_says_the_code() {
        let told = |attributes| {
            let content_type = ContentType::JSON;
            let topic = "t".parse().unwrap();
            let answer =
                of_handler(&Message { topic, device: None, content_type, attributes, payload: "1".into() });
            format!("{} {:?}", answer.header.code, packet::uint(&answer, Opt::ContentFormat))
        };
        assert_eq!(told(Attributes::new()), "2.04 Some(50)");
        assert_eq!(told(Attributes::new().with("coap.code", "4.04")), "4.04 Some(50)");
        for bad in ["", "404", "1.01", "2.32", "2.5", "-.04", "2.005"] {
            assert_eq!(told(Attributes::new().with("coap.code", bad)), "5.00 None", "{bad}");
        }
    }
}
