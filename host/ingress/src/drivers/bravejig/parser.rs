//! Finding frames in what comes over the line, also after garbage. Pure: time is passed in.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use super::uplink;
use super::wire::{Frame, Id, ModuleAnswer, RouterAnswer, Uplink, module, router};

/// Bytes of an uplink before its data, and of the other frames.
const UPLINK: usize = 21;
const MODULE: usize = 20;
const ROUTER: usize = 15;
const SHORT: usize = 7;

/// The most data of an uplink.
const DATA_MAX: usize = 8192;

/// A frame that does not say how long it is has ended when nothing came for so long.
pub(super) const GAP: Duration = Duration::from_millis(50);

/// What came of a frame is garbage when nothing more came for so long.
pub(super) const STALL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Parser {
    buffer: BytesMut,
    skipped: u64,
}

/// How much of the buffer a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Whole(usize),
    /// More is to come.
    Part,
    /// It may be whole; silence will tell.
    Open,
    /// No frame begins here.
    None,
}

impl Parser {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, when nothing has come for `silence`.
    pub(crate) fn next(&mut self, silence: Duration) -> Option<Frame> {
        loop {
            let size = match extent(&self.buffer) {
                Extent::Whole(size) => size,
                Extent::Open if silence >= GAP => self.buffer.len(),
                Extent::Part if silence < STALL || self.buffer.is_empty() => return None,
                Extent::Open => return None,
                Extent::None | Extent::Part => {
                    self.skip();
                    continue;
                }
            };
            let bytes = self.buffer.split_to(size).freeze();
            return Some(frame(&bytes));
        }
    }

    /// How long silence must be for it to mean something.
    pub(super) fn waits(&self) -> Option<Duration> {
        match extent(&self.buffer) {
            Extent::Open => Some(GAP),
            _ if self.buffer.is_empty() => None,
            _ => Some(STALL),
        }
    }

    /// How many bytes belonged to no frame since this was asked last.
    pub(super) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    fn skip(&mut self) {
        let next = self.buffer.iter().skip(1).position(|byte| *byte == 0x01);
        let size = next.map_or(self.buffer.len(), |next| next + 1);
        self.buffer.advance(size);
        self.skipped += size as u64;
    }
}

fn extent(bytes: &[u8]) -> Extent {
    match bytes {
        [] | [0x01] => Extent::Part,
        [0x01, 0x00, ..] => uplink_extent(bytes),
        [0x01, 0x01, ..] => fixed(bytes, MODULE, |bytes| {
            is_time(&bytes[2..6]) && module::ALL.contains(&bytes[18]) && bytes[19] < 0x10
        }),
        [0x01, 0x02, ..] => router_extent(bytes),
        [0x01, 0x03 | 0xff, ..] => fixed(bytes, SHORT, |bytes| is_time(&bytes[2..6])),
        _ => Extent::None,
    }
}

fn fixed(bytes: &[u8], size: usize, is_right: impl Fn(&[u8]) -> bool) -> Extent {
    match bytes.get(..size) {
        None => Extent::Part,
        Some(frame) if is_right(frame) => Extent::Whole(size),
        Some(_) => Extent::None,
    }
}

/// An uplink's length may be garbage: its data must be what such a sensor sends.
fn uplink_extent(bytes: &[u8]) -> Extent {
    let Some(size) = bytes.get(2..4).map(|size| usize::from(u16_at(size, 0))) else { return Extent::Part };
    if size > DATA_MAX || bytes.get(16..18).is_some_and(|sensor| !uplink::is_sensor(u16_at(sensor, 0))) {
        return Extent::None;
    }
    match bytes.get(..UPLINK + size) {
        None => Extent::Part,
        Some(frame) if uplink::fits(u16_at(frame, 16), &frame[UPLINK..]) => Extent::Whole(UPLINK + size),
        Some(_) => Extent::None,
    }
}

/// What follows the router's id depends on the command, and is not always said.
fn router_extent(bytes: &[u8]) -> Extent {
    let Some(head) = bytes.get(..ROUTER) else { return Extent::Part };
    let data = &bytes[ROUTER..];
    let most = match head[6] {
        router::DEVICE_IDS => {
            let Some(count) = data.first().filter(|count| **count <= router::DEVICES_MAX) else {
                return if data.is_empty() { Extent::Part } else { Extent::None };
            };
            let size = 1 + 8 * usize::from(*count);
            return if data.len() < size { Extent::Part } else { Extent::Whole(ROUTER + size) };
        }
        router::VERSION => 8,
        command if (router::DEVICE_ID..router::SCAN_MODE).contains(&command) => 8,
        router::STOP..=router::START | router::SCAN_MODE..=router::DEVICE_IDS | router::KEEPALIVE => 1,
        _ => return Extent::None,
    };
    if !is_time(&head[2..6]) {
        return Extent::None;
    }
    let next = (0..=most.min(data.len())).find(|at| begins_frame(&data[*at..]));
    match next {
        Some(size) => Extent::Whole(ROUTER + size),
        None if data.len() >= most => Extent::Whole(ROUTER + most),
        None => Extent::Open,
    }
}

/// Whether a frame begins here, as far as its head says.
fn begins_frame(bytes: &[u8]) -> bool {
    match bytes {
        [0x01, 0x00, ..] if bytes.len() >= UPLINK => {
            usize::from(u16_at(bytes, 2)) <= DATA_MAX && uplink::is_sensor(u16_at(bytes, 16))
        }
        [0x01, 0x01 | 0x02 | 0x03 | 0xff, ..] if bytes.len() >= SHORT => is_time(&bytes[2..6]),
        _ => false,
    }
}

/// Seconds since 2014; 0 where the clock was not set yet.
fn is_time(bytes: &[u8]) -> bool {
    const EARLIEST: u32 = 1_388_534_400;
    matches!(u32_at(bytes, 0), 0 | EARLIEST..)
}

/// Of bytes that are a whole frame.
fn frame(bytes: &Bytes) -> Frame {
    match bytes[1] {
        0x00 => Frame::Uplink(Uplink {
            device: id_at(bytes, 8),
            sensor: u16_at(bytes, 16),
            rssi: bytes[18].cast_signed(),
            order: u16_at(bytes, 19),
            data: bytes.slice(UPLINK..),
            raw: bytes.clone(),
        }),
        0x01 => Frame::Module(ModuleAnswer {
            device: id_at(bytes, 6),
            order: u16_at(bytes, 16),
            command: bytes[18],
            result: bytes[19],
        }),
        0x02 => Frame::Router(RouterAnswer {
            command: bytes[6],
            router: id_at(bytes, 7),
            data: bytes.slice(ROUTER..),
        }),
        0x03 => Frame::Firmware { result: bytes[6] },
        _ => Frame::Error { reason: bytes[6] },
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn id_at(bytes: &[u8], at: usize) -> Id {
    Id(u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: u32 = 1_790_000_000;
    pub(in crate::drivers::bravejig) const DEVICE: Id = Id(0x2468_0024_0123_4567);

    /// As the router writes it.
    pub(in crate::drivers::bravejig) fn uplink_bytes(sensor: u16, data: &[u8]) -> Vec<u8> {
        let size = u16::try_from(data.len()).unwrap().to_le_bytes();
        [
            &[1, 0][..],
            &size,
            &TIME.to_le_bytes(),
            &DEVICE.0.to_le_bytes(),
            &sensor.to_le_bytes(),
            &[0xc4],
            &[7, 0],
            data,
        ]
        .concat()
    }

    pub(in crate::drivers::bravejig) fn lux(value: f32) -> Vec<u8> {
        let data = [&[99, 1][..], &TIME.to_le_bytes(), &[1, 0], &value.to_le_bytes()].concat();
        uplink_bytes(0x0121, &data)
    }

    fn router_bytes(command: u8, data: &[u8]) -> Vec<u8> {
        [&[1, 2][..], &TIME.to_le_bytes(), &[command], &0xabu64.to_le_bytes(), data].concat()
    }

    fn all(parser: &mut Parser, silence: Duration) -> Vec<Frame> {
        std::iter::from_fn(|| parser.next(silence)).collect()
    }

    fn parsed(bytes: &[u8]) -> Vec<Frame> {
        let mut parser = Parser::default();
        parser.push(bytes);
        let mut frames = all(&mut parser, Duration::ZERO);
        frames.extend(all(&mut parser, STALL));
        frames
    }

    #[test]
    fn frames_of_every_kind_follow_each_other() {
        let module =
            [&[1, 1][..], &TIME.to_le_bytes(), &DEVICE.0.to_le_bytes(), &[0x21, 1, 9, 0, 0x0d, 8]].concat();
        let ids = [&[2][..], &1u64.to_le_bytes(), &DEVICE.0.to_le_bytes()].concat();
        let bytes = [
            lux(1.5),
            module,
            router_bytes(router::START, &[]),
            lux(2.5),
            router_bytes(router::DEVICE_IDS, &ids),
            [&[1, 3][..], &TIME.to_le_bytes(), &[0]].concat(),
            [&[1, 0xff][..], &TIME.to_le_bytes(), &[4]].concat(),
            router_bytes(router::VERSION, &[1, 2, 3]),
        ]
        .concat();
        let frames = parsed(&bytes);
        assert_eq!(frames.len(), 8, "{frames:?}");
        assert!(matches!(&frames[0], Frame::Uplink(uplink) if uplink.rssi == -60 && uplink.order == 7));
        let answer = ModuleAnswer { device: DEVICE, order: 9, command: 0x0d, result: 8 };
        assert_eq!(frames[1], Frame::Module(answer));
        assert!(
            matches!(&frames[2], Frame::Router(answer) if answer.data.is_empty() && answer.router == Id(0xab))
        );
        assert!(matches!(&frames[4], Frame::Router(answer) if answer.data.len() == 17));
        assert_eq!((&frames[5], &frames[6]), (&Frame::Firmware { result: 0 }, &Frame::Error { reason: 4 }));
        assert!(matches!(&frames[7], Frame::Router(answer) if *answer.data == [1, 2, 3]));
    }

    #[test]
    fn what_does_not_say_how_long_it_is_ends_with_silence() {
        let mut parser = Parser::default();
        parser.push(&router_bytes(router::STOP, &[]));
        assert_eq!((parser.next(Duration::ZERO), parser.waits()), (None, Some(GAP)));
        assert!(parser.next(GAP).is_some() && parser.waits().is_none());
        parser.push(&lux(1.0)[..12]);
        assert_eq!((parser.next(GAP), parser.waits()), (None, Some(STALL)));
        assert_eq!((parser.next(STALL), parser.take_skipped()), (None, 12));
    }

    #[test]
    fn after_garbage_the_next_frame_is_found() {
        let whole = lux(3.0);
        for garbage in [
            &b"\xff\x00hello"[..],
            b"\x01",
            b"\x01\x00",
            b"\x01\x00\xff\xff",
            // A length that reaches into the frames that follow.
            b"\x01\x00\x10\x00\0\0\0\0aaaaaaaa\x21\x01",
            b"\x01\x02\x03",
            &whole[..20],
        ] {
            let bytes = [garbage, &whole, &whole, &whole].concat();
            let frames = parsed(&bytes);
            let found = frames.iter().filter(|frame| matches!(frame, Frame::Uplink(_))).count();
            assert!(found >= 2, "{garbage:?}: {frames:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_garbage(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut parser = Parser::default();
            parser.push(&bytes);
            let _ = all(&mut parser, STALL);
            prop_assert!(parser.waits().is_none());
        }
    }
}
