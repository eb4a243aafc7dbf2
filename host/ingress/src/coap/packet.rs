//! What is read from packets and written into them, beyond what coap-lite knows. Pure.

pub(crate) use coap_lite::{
    CoapOption as Opt, MessageClass, MessageType, Packet, RequestType as Method, ResponseType as Code,
};

/// What a datagram is.
#[derive(Debug)]
pub(crate) enum Parsed {
    Message(Packet),
    /// A message of a wrong format: a confirmable one is reset (RFC 7252, section 4.2).
    Broken {
        id: u16,
        confirmable: bool,
    },
    /// Nothing of this protocol, or of a version to come: it is ignored.
    Foreign,
}

/// The class of a code: 0 for requests, 2, 4 and 5 for responses.
pub(crate) fn class(packet: &Packet) -> u8 {
    u8::from(packet.header.code) >> 5
}

pub(crate) fn parse(datagram: &[u8]) -> Parsed {
    let [first, code, id @ ..] = datagram else { return Parsed::Foreign };
    let [high, low, rest @ ..] = id else { return Parsed::Foreign };
    if first >> 6 != 1 {
        return Parsed::Foreign;
    }
    let broken = Parsed::Broken { id: u16::from_be_bytes([*high, *low]), confirmable: first & 0x30 == 0x00 };
    let is_empty = *code == 0;
    if is_empty && !rest.is_empty() || matches!(code >> 5, 1 | 6 | 7) {
        return broken;
    }
    match Packet::from_bytes(datagram) {
        // A marker without a payload behind it.
        Ok(packet) if packet.payload.is_empty() && datagram.last() == Some(&0xFF) => {
            match packet.to_bytes_unlimited() {
                Ok(bytes) if bytes.len() == datagram.len() => Parsed::Message(packet),
                _ => broken,
            }
        }
        Ok(packet) => Parsed::Message(packet),
        Err(_) => broken,
    }
}

/// Of any size: a datagram that is too large is the network's to refuse.
pub(crate) fn bytes(packet: &Packet) -> Vec<u8> {
    packet.to_bytes_unlimited().unwrap_or_default()
}

/// An empty message: an acknowledgement or a reset.
pub(crate) fn empty(kind: MessageType, id: u16) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_type(kind);
    packet.header.code = MessageClass::Empty;
    packet.header.message_id = id;
    packet
}

pub(crate) fn request(method: Method, path: &str, query: &[&str]) -> Packet {
    let mut packet = Packet::new();
    packet.header.code = MessageClass::Request(method);
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        packet.add_option(Opt::UriPath, segment.as_bytes().to_vec());
    }
    for parameter in query {
        packet.add_option(Opt::UriQuery, parameter.as_bytes().to_vec());
    }
    packet
}

pub(crate) fn response(code: Code) -> Packet {
    let mut packet = Packet::new();
    packet.header.code = MessageClass::Response(code);
    packet
}

/// An error with a line for people (RFC 7252, section 5.5.2).
pub(crate) fn problem(code: Code, text: &str) -> Packet {
    let mut packet = response(code);
    packet.payload = text.as_bytes().to_vec();
    packet
}

/// `/a/b`, `/` for none. `None` if a segment is no text, or hides a slash.
pub(crate) fn path(packet: &Packet) -> Option<String> {
    let mut path = String::new();
    for segment in packet.get_option(Opt::UriPath).into_iter().flatten() {
        let segment = std::str::from_utf8(segment).ok().filter(|segment| !segment.contains('/'))?;
        path.push('/');
        path.push_str(segment);
    }
    if path.is_empty() {
        path.push('/');
    }
    Some(path)
}

/// `name=value` each. `None` if one is no text.
pub(crate) fn queries(packet: &Packet) -> Option<Vec<&str>> {
    let queries = packet.get_option(Opt::UriQuery).into_iter().flatten();
    queries.map(|query| std::str::from_utf8(query).ok()).collect()
}

/// An option that is a number (RFC 7252, section 3.2): the first one, if it has at most four bytes.
pub(crate) fn uint(packet: &Packet, option: Opt) -> Option<u32> {
    let value = packet.get_first_option(option)?;
    (value.len() <= 4).then(|| value.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

/// In place of what was there.
pub(crate) fn set_uint(packet: &mut Packet, option: Opt, number: u32) {
    let bytes = number.to_be_bytes();
    let begin = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    packet.set_option(option, [bytes[begin..].to_vec()].into());
}

/// Removes it: coap-lite's own way leaves an empty list behind.
pub(crate) fn without(packet: &mut Packet, option: Opt) {
    packet.set_option(option, [].into());
}

/// The first option that must be understood and is not among those that are (RFC 7252, section 5.4.1).
pub(crate) fn unknown_critical(packet: &Packet, known: &[u16]) -> Option<u16> {
    let mut options = packet.options().filter(|(_, values)| !values.is_empty()).map(|(number, _)| *number);
    options.find(|number| number % 2 == 1 && !known.contains(number))
}

/// Observe's order (RFC 7641, section 3.4): whether `later` is newer than `earlier`, as far as 24 bits tell.
pub(crate) fn is_newer(later: u32, earlier: u32) -> bool {
    const HALF: u32 = 1 << 23;
    earlier < later && later - earlier < HALF || earlier > later && earlier - later > HALF
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(datagram: &[u8]) -> String {
        match parse(datagram) {
            Parsed::Message(packet) => {
                format!(
                    "{} {:?} {:?} {:?}",
                    packet.header.code,
                    path(&packet),
                    packet.get_token(),
                    packet.payload
                )
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn tells_messages_from_broken_ones_and_from_others() {
        for (datagram, is) in [
            (&b"\x42\x01\x00\x07\xAA\xBB\xB1a\x01b\xFFhi"[..], "0.01 Some(\"/a/b\") [170, 187] [104, 105]"),
            (b"\x40\x00\x00\x07", "0.00 Some(\"/\") [] []"),
            (b"\x41\x01\x00\x07\xFF", "0.01 Some(\"/\") [255] []"),
            (b"\x40\x01\x00\x07\xB1\xFF", "0.01 None [] []"),
            (b"\x40\x01\x00\x07\xB3a/b", "0.01 None [] []"),
            (b"\x40\x01\x00\x07\xFF", "Broken { id: 7, confirmable: true }"),
            (b"\x50\x01\x00\x07\xFF", "Broken { id: 7, confirmable: false }"),
            (b"\x40\x00\x00\x07\xFFx", "Broken { id: 7, confirmable: true }"),
            (b"\x40\x20\x00\x07", "Broken { id: 7, confirmable: true }"),
            (b"\x49\x01\x00\x07123456789", "Broken { id: 7, confirmable: true }"),
            (b"\x42\x01\x00\x07\xAA", "Broken { id: 7, confirmable: true }"),
            (b"\x40\x01\x00\x07\xF1", "Broken { id: 7, confirmable: true }"),
            (b"\x80\x01\x00\x07", "Foreign"),
            (b"\x40\x01\x00", "Foreign"),
            (b"", "Foreign"),
        ] {
            assert_eq!(parsed(datagram), is, "{datagram:?}");
        }
    }

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        let mut packet = response(Code::Content);
        for (number, length) in [(0, 0), (255, 1), (256, 2), (u32::MAX, 4)] {
            set_uint(&mut packet, Opt::MaxAge, number);
            assert_eq!(packet.get_first_option(Opt::MaxAge).map(Vec::len), Some(length));
            assert_eq!(uint(&packet, Opt::MaxAge), Some(number));
        }
        without(&mut packet, Opt::MaxAge);
        assert_eq!((uint(&packet, Opt::MaxAge), bytes(&packet).len()), (None, 4));
    }

    #[test]
    fn what_must_be_understood_is_found() {
        let mut packet = request(Method::Get, "/a", &["b=1"]);
        assert_eq!(unknown_critical(&packet, &[11, 15]), None);
        packet.add_option(Opt::Unknown(2050), vec![1]);
        assert_eq!(unknown_critical(&packet, &[11, 15]), None);
        packet.add_option(Opt::IfMatch, vec![1]);
        assert_eq!(unknown_critical(&packet, &[11, 15]), Some(1));
    }

    #[test]
    fn order_goes_round() {
        assert!(is_newer(1, 0) && is_newer(0, 0xFF_FFFF) && !is_newer(0xFF_FFFF, 0) && !is_newer(5, 5));
    }
}
