//! Block-wise transfers (RFC 7959), a server's side: bodies that arrive in pieces, and bodies that leave in pieces.
//! The time is passed in.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::endpoint::Peer;
use super::packet::{self, Code, MessageClass, Method, Opt, Packet, problem, response};

/// One of the options Block1 and Block2 (section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) number: u32,
    pub(crate) more: bool,
    /// The size's exponent: 0 for 16 bytes to 6 for 1024.
    pub(crate) exponent: u8,
}

impl Block {
    pub(crate) const EXPONENT_MAX: u8 = 6;

    /// `None` if it is not there; an error if it cannot be.
    pub(crate) fn of(packet: &Packet, option: Opt) -> Result<Option<Self>, ()> {
        if packet.get_first_option(option).is_none() {
            return Ok(None);
        }
        let number = packet::uint(packet, option).filter(|number| *number < 1 << 24).ok_or(())?;
        let exponent = (number & 7) as u8;
        match exponent <= Self::EXPONENT_MAX {
            true => Ok(Some(Self { number: number >> 4, more: number & 8 != 0, exponent })),
            false => Err(()),
        }
    }

    pub(crate) fn set(self, packet: &mut Packet, option: Opt) {
        let Self { number, more, exponent } = self;
        packet::set_uint(packet, option, number << 4 | u32::from(more) << 3 | u32::from(exponent));
    }

    pub(crate) const fn size(self) -> usize {
        16 << self.exponent
    }

    pub(crate) const fn offset(self) -> usize {
        self.number as usize * self.size()
    }
}

/// The exponent of a size that a setting names: 16, 32 … 1024.
pub(crate) fn exponent(size: usize) -> Option<u8> {
    (0..=Block::EXPONENT_MAX).find(|exponent| 16 << exponent == size)
}

/// Bounds of [`Transfers`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of a body.
    pub(crate) body_max: usize,
    /// The largest block that is sent or asked for.
    pub(crate) exponent: u8,
    /// For how long the next piece may take to come or to be asked for.
    pub(crate) patience: Duration,
}

/// Bodies of one peer that are half-way at once, each way; the oldest one goes.
const OF_A_PEER_MAX: usize = 4;
/// Of all peers.
const HALF_WAY_MAX: usize = 512;
/// Bytes of all.
const BYTES_MAX: usize = 32 << 20;

/// What a body belongs to: peer, method, path and queries.
type Key = (Peer, u8, String);

struct Half {
    bytes: Vec<u8>,
    /// For bodies that leave: everything but the payload.
    head: Option<Packet>,
    touched: Instant,
}

/// Everything that is half-way.
pub(crate) struct Transfers {
    limits: Limits,
    arriving: HashMap<Key, Half>,
    leaving: HashMap<Key, Half>,
}

/// What a request is, as far as blocks go.
#[derive(Debug)]
pub(crate) enum Begun {
    /// With its whole body.
    Whole(Packet),
    /// A piece of something; this is the answer.
    Answered(Packet),
}

impl Transfers {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, arriving: HashMap::new(), leaving: HashMap::new() }
    }

    pub(crate) fn begin(&mut self, peer: Peer, mut request: Packet, now: Instant) -> Begun {
        let (Ok(upload), Ok(download)) = (Block::of(&request, Opt::Block1), Block::of(&request, Opt::Block2))
        else {
            return Begun::Answered(problem(Code::BadOption, "a block that cannot be"));
        };
        let key = key(peer, &request);
        self.forget_old(now);
        if let Some(block) = upload {
            let answer = self.arrive(&key, block, &mut request, now);
            return answer.map_or_else(|| Begun::Whole(request), Begun::Answered);
        }
        if request.payload.len() > self.limits.body_max {
            return Begun::Answered(self.too_large());
        }
        match download {
            Some(block) if block.number > 0 => match self.leave(&key, block, now) {
                Some(answer) => Begun::Answered(answer),
                // What can be had again needs not be remembered.
                None if request.header.code == MessageClass::Request(Method::Get) => Begun::Whole(request),
                None => Begun::Answered(problem(
                    Code::RequestEntityIncomplete,
                    "this answer is not kept any more",
                )),
            },
            _ => Begun::Whole(request),
        }
    }

    /// Takes a piece; the last one makes `request` whole, for which there is no answer yet.
    fn arrive(&mut self, key: &Key, block: Block, request: &mut Packet, now: Instant) -> Option<Packet> {
        if block.more && request.payload.len() != block.size() || request.payload.len() > block.size() {
            return Some(problem(Code::BadRequest, "the piece does not have the size of a block"));
        }
        let announced = packet::uint(request, Opt::Size1).unwrap_or(0) as usize;
        if announced.max(block.offset() + request.payload.len()) > self.limits.body_max {
            self.arriving.remove(key);
            return Some(self.too_large());
        }
        if block.number == 0 {
            make_room(&mut self.arriving, key);
            let half = Half { bytes: Vec::new(), head: None, touched: now };
            self.arriving.insert(key.clone(), half);
        }
        if self.bytes() + request.payload.len() > BYTES_MAX {
            self.arriving.remove(key);
            return Some(problem(Code::ServiceUnavailable, "too much is on its way"));
        }
        let expected = self.arriving.get(key).map(|half| half.bytes.len());
        let half = match (self.arriving.get_mut(key), expected) {
            (Some(half), Some(expected)) if block.offset() <= expected => half,
            _ => return Some(problem(Code::RequestEntityIncomplete, "a piece before this one is missing")),
        };
        half.bytes.truncate(block.offset());
        half.bytes.extend_from_slice(&request.payload);
        half.touched = now;
        if block.more {
            let mut answer = response(Code::Continue);
            Block { exponent: block.exponent.min(self.limits.exponent), ..block }
                .set(&mut answer, Opt::Block1);
            return Some(answer);
        }
        request.payload = self.arriving.remove(key)?.bytes;
        None
    }

    /// The piece of an answer that was kept.
    fn leave(&mut self, key: &Key, block: Block, now: Instant) -> Option<Packet> {
        let half = self.leaving.get_mut(key)?;
        half.touched = now;
        let head = half.head.clone()?;
        let (answer, is_last) = piece(head, &half.bytes, block)?;
        if is_last {
            self.leaving.remove(key);
        }
        Some(answer)
    }

    /// Says what goes into the first message of an answer to `request`, and keeps the rest.
    pub(crate) fn finish(
        &mut self,
        peer: Peer,
        request: &Packet,
        mut answer: Packet,
        now: Instant,
    ) -> Packet {
        // A request that came in pieces is told that the last one arrived.
        if let Ok(Some(block)) = Block::of(request, Opt::Block1) {
            block.set(&mut answer, Opt::Block1);
        }
        let asked = Block::of(request, Opt::Block2).ok().flatten();
        let exponent = asked.map_or(self.limits.exponent, |block| block.exponent.min(self.limits.exponent));
        let block = Block { number: asked.map_or(0, |block| block.number), more: false, exponent };
        if answer.payload.len() <= block.size() && block.number == 0 {
            return answer;
        }
        let body = std::mem::take(&mut answer.payload);
        packet::set_uint(&mut answer, Opt::Size2, u32::try_from(body.len()).unwrap_or(u32::MAX));
        answer.set_option(Opt::ETag, [etag(&body)].into());
        let Some((first, is_last)) = piece(answer.clone(), &body, block) else {
            return problem(Code::BadOption, "a block behind the end");
        };
        if !is_last && self.bytes() + body.len() <= BYTES_MAX {
            let key = key(peer, request);
            make_room(&mut self.leaving, &key);
            packet::without(&mut answer, Opt::Block1);
            packet::without(&mut answer, Opt::Observe);
            self.leaving.insert(key, Half { bytes: body, head: Some(answer), touched: now });
        }
        first
    }

    /// An answer for who sends more than is taken (RFC 7959, section 2.9.3).
    pub(crate) fn too_large(&self) -> Packet {
        let mut answer = problem(Code::RequestEntityTooLarge, "more than a reading may have");
        packet::set_uint(&mut answer, Opt::Size1, u32::try_from(self.limits.body_max).unwrap_or(u32::MAX));
        answer
    }

    fn forget_old(&mut self, now: Instant) {
        let patience = self.limits.patience;
        for halves in [&mut self.arriving, &mut self.leaving] {
            halves.retain(|_, half| now.duration_since(half.touched) < patience);
        }
    }

    fn bytes(&self) -> usize {
        self.arriving.values().chain(self.leaving.values()).map(|half| half.bytes.len()).sum()
    }
}

fn key(peer: Peer, request: &Packet) -> Key {
    let mut text = packet::path(request).unwrap_or_default();
    for query in packet::queries(request).unwrap_or_default() {
        text.push('?');
        text.push_str(query);
    }
    (peer, request.header.code.into(), text)
}

/// The oldest of the peer goes, then the oldest of all.
fn make_room(halves: &mut HashMap<Key, Half>, key: &Key) {
    let of_peer = halves.keys().filter(|(peer, ..)| *peer == key.0).count();
    if halves.contains_key(key) || of_peer < OF_A_PEER_MAX && halves.len() < HALF_WAY_MAX {
        return;
    }
    let may_go = halves.iter().filter(|((peer, ..), _)| of_peer < OF_A_PEER_MAX || *peer == key.0);
    if let Some(oldest) = may_go.min_by_key(|(_, half)| half.touched).map(|(key, _)| key.clone()) {
        halves.remove(&oldest);
    }
}

/// `None` behind the end of `body`.
fn piece(mut head: Packet, body: &[u8], block: Block) -> Option<(Packet, bool)> {
    let rest = body.get(block.offset()..).filter(|rest| !rest.is_empty())?;
    let is_last = rest.len() <= block.size();
    Block { more: !is_last, ..block }.set(&mut head, Opt::Block2);
    head.payload = rest[..rest.len().min(block.size())].to_vec();
    Some((head, is_last))
}

/// The same for the same body.
fn etag(body: &[u8]) -> Vec<u8> {
    use sha2::Digest;
    sha2::Sha256::digest(body)[..8].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> Peer {
        Peer { address: ([127, 0, 0, 1], port).into(), is_secure: false }
    }

    fn transfers() -> Transfers {
        Transfers::new(Limits { body_max: 100, exponent: 1, patience: Duration::from_secs(60) })
    }

    fn piece_of(number: u32, more: bool, payload: &[u8]) -> Packet {
        let mut request = packet::request(Method::Put, "/a", &[]);
        Block { number, more, exponent: 1 }.set(&mut request, Opt::Block1);
        request.payload = payload.to_vec();
        request
    }

    fn said(begun: Begun) -> String {
        match begun {
            Begun::Whole(packet) => format!("whole {}", packet.payload.len()),
            Begun::Answered(packet) => {
                let block = Block::of(&packet, Opt::Block1).unwrap().map(|block| block.number);
                format!("{} {block:?}", packet.header.code)
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pieces_of_several_peers_become_whole_bodies() {
        let (mut transfers, now) = (transfers(), Instant::now());
        assert_eq!(said(transfers.begin(peer(1), piece_of(0, true, &[1; 32]), now)), "2.31 Some(0)");
        assert_eq!(said(transfers.begin(peer(2), piece_of(0, true, &[2; 32]), now)), "2.31 Some(0)");
        assert_eq!(said(transfers.begin(peer(1), piece_of(1, true, &[1; 32]), now)), "2.31 Some(1)");
        // Repeated with another message id.
        assert_eq!(said(transfers.begin(peer(1), piece_of(1, true, &[1; 32]), now)), "2.31 Some(1)");
        assert_eq!(said(transfers.begin(peer(2), piece_of(1, false, &[2; 3]), now)), "whole 35");
        assert_eq!(said(transfers.begin(peer(1), piece_of(2, false, &[1; 32]), now)), "whole 96");
        assert_eq!(said(transfers.begin(peer(1), piece_of(2, false, &[1; 32]), now)), "4.08 None");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_is_refused() {
        let (mut transfers, now) = (transfers(), Instant::now());
        assert_eq!(said(transfers.begin(peer(1), piece_of(1, true, &[1; 32]), now)), "4.08 None");
        assert_eq!(said(transfers.begin(peer(1), piece_of(0, true, &[1; 31]), now)), "4.00 None");
        assert_eq!(said(transfers.begin(peer(1), piece_of(3, true, &[1; 32]), now)), "4.13 None");
        let mut odd = packet::request(Method::Put, "/a", &[]);
        packet::set_uint(&mut odd, Opt::Block1, 7);
        assert_eq!(said(transfers.begin(peer(1), odd, now)), "4.02 None");
        transfers.begin(peer(1), piece_of(0, true, &[1; 32]), now);
        let later = now + Duration::from_secs(61);
        assert_eq!(said(transfers.begin(peer(1), piece_of(1, false, &[1; 3]), later)), "4.08 None");
        for port in 0..2000 {
            transfers.begin(peer(port), piece_of(0, true, &[1; 32]), now);
        }
        assert!(transfers.arriving.len() <= HALF_WAY_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn long_answers_leave_in_pieces() {
        let (mut transfers, now) = (transfers(), Instant::now());
        let ask = |number, exponent| {
            let mut request = packet::request(Method::Post, "/a", &[]);
            Block { number, more: false, exponent }.set(&mut request, Opt::Block2);
            request
        };
        let mut whole = response(Code::Changed);
        whole.payload = (0..70).collect();
        let mut first = transfers.finish(peer(1), &ask(0, 6), whole, now);
        let mut read = std::mem::take(&mut first.payload);
        for number in 1..3 {
            let Begun::Answered(mut next) = transfers.begin(peer(1), ask(number, 1), now) else { panic!() };
            assert_eq!(next.get_first_option(Opt::ETag), first.get_first_option(Opt::ETag));
            read.append(&mut next.payload);
        }
        assert_eq!(read, (0..70).collect::<Vec<u8>>());
        assert!(transfers.leaving.is_empty());
        assert_eq!(said(transfers.begin(peer(1), ask(1, 1), now)), "4.08 None");
    }
}
