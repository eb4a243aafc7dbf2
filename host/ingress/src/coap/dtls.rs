//! The sockets of an endpoint: plain UDP, and DTLS 1.2 with pre-shared keys (RFC 7252, section 9.1.3.1).

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dimpl::{Config, Dtls, Output, PskResolver};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::endpoint::Peer;
use crate::LinkError;

/// More than a datagram can have.
const DATAGRAM: usize = 1 << 16;

/// Tunnels at once; the one that was silent for longest goes, unfinished ones first.
const TUNNELS_MAX: usize = 1024;

/// Messages that wait for a tunnel's handshake.
const WAITING_MAX: usize = 16;

/// Keys by identity.
#[derive(Clone, Default)]
pub(crate) struct Keys(pub(crate) Arc<HashMap<Box<str>, Vec<u8>>>);

/// Which identity is used towards which node. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Identities(Arc<Mutex<HashMap<SocketAddr, Box<str>>>>);

impl Identities {
    pub(crate) fn know(&self, address: SocketAddr, identity: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address, identity.into());
    }

    fn of(&self, address: SocketAddr) -> Option<Box<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned()
    }
}

pub(crate) struct Sockets {
    plain: UdpSocket,
    secure: Option<Secure>,
    buffer: Vec<u8>,
    secure_buffer: Vec<u8>,
}

impl Sockets {
    pub(crate) fn new(plain: UdpSocket, secure: Option<Secure>) -> Self {
        let secure_buffer = if secure.is_some() { vec![0; DATAGRAM] } else { Vec::new() };
        Self { plain, secure, buffer: vec![0; DATAGRAM], secure_buffer }
    }

    /// `None` for a datagram that holds no message. May be dropped and called again.
    pub(crate) async fn receive(&mut self) -> Result<Option<(Peer, Vec<u8>)>, LinkError> {
        if let Some(ready) = self.secure.as_mut().and_then(|secure| secure.ready.pop_front()) {
            return Ok(Some(ready));
        }
        let secure = self.secure.as_ref().map(|secure| &secure.socket);
        let received = tokio::select! {
            received = self.plain.recv_from(&mut self.buffer) => {
                let (size, address) = match received {
                    Ok(received) => received,
                    Err(error) if is_of_a_peer(&error) => return Ok(None),
                    Err(error) => return Err(LinkError::new("receiving", error)),
                };
                let peer = Peer { address: canonical(address), is_secure: false };
                return Ok(Some((peer, self.buffer[..size].to_vec())));
            }
            received = async {
                match secure {
                    Some(socket) => socket.recv_from(&mut self.secure_buffer).await,
                    None => std::future::pending().await,
                }
            } => received,
        };
        match (received, &mut self.secure) {
            (Ok((size, address)), Some(secure)) => {
                secure.receive(canonical(address), &self.secure_buffer[..size], Instant::now());
                Ok(secure.ready.pop_front())
            }
            (Err(error), _) if !is_of_a_peer(&error) => Err(LinkError::new("receiving over DTLS", error)),
            _ => Ok(None),
        }
    }

    /// What is lost is sent again by who wants it to arrive.
    pub(crate) async fn send(&mut self, peer: Peer, bytes: &Bytes) {
        match &mut self.secure {
            Some(secure) if peer.is_secure => secure.send(peer.address, bytes.clone(), Instant::now()),
            _ if peer.is_secure => {}
            _ => drop(self.plain.send_to(bytes, peer.address).await),
        }
    }

    pub(crate) async fn flush(&mut self) {
        if let Some(secure) = &mut self.secure {
            for (address, record) in std::mem::take(&mut secure.outgoing) {
                let _ = secure.socket.send_to(&record, address).await;
            }
        }
    }

    /// Whose key a peer proved to have.
    pub(crate) fn identity(&self, peer: Peer) -> Option<Arc<str>> {
        let secure = self.secure.as_ref().filter(|_| peer.is_secure)?;
        secure.tunnels.get(&peer.address)?.identity()
    }

    /// A peer does not answer: it may have been restarted, and cannot read what it is sent.
    pub(crate) fn lost(&mut self, peer: Peer) {
        if let Some(secure) = self.secure.as_mut().filter(|_| peer.is_secure) {
            secure.lost(peer.address);
        }
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.secure.as_ref().and_then(Secure::next_due)
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        if let Some(secure) = &mut self.secure {
            secure.tick(now);
        }
    }

    /// Says good-bye in every tunnel.
    pub(crate) async fn close(&mut self) {
        if let Some(secure) = &mut self.secure {
            secure.close();
        }
        self.flush().await;
    }
}

/// A socket for both versions of IP sees IPv4 peers at mapped addresses, and sends to either form. All others stay as
/// they are, with the scope that a link-local one needs.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

fn is_of_a_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable)
}

/// A socket with tunnels.
pub(crate) struct Secure {
    socket: UdpSocket,
    keys: Keys,
    identities: Identities,
    tunnels: HashMap<SocketAddr, Tunnel>,
    /// Handshakes of peers that have a tunnel: they were restarted (RFC 6347, section 4.2.8).
    again: HashMap<SocketAddr, Tunnel>,
    outgoing: Vec<(SocketAddr, Vec<u8>)>,
    ready: VecDeque<(Peer, Vec<u8>)>,
}

struct Tunnel {
    dtls: Dtls,
    said: Arc<Said>,
    is_connected: bool,
    waiting: VecDeque<Bytes>,
    due: Option<std::time::Instant>,
    touched: Instant,
}

/// Looks keys up, and remembers for whom.
struct Said {
    keys: Keys,
    identity: Mutex<Option<Arc<str>>>,
}

impl PskResolver for Said {
    fn resolve(&self, identity: &[u8]) -> Option<Vec<u8>> {
        let identity = std::str::from_utf8(identity).ok()?;
        let key = self.keys.0.get(identity)?;
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = Some(identity.into());
        Some(key.clone())
    }
}

/// What a tunnel came to.
enum State {
    Open,
    Closed,
}

impl Tunnel {
    /// `identity` is there towards nodes, where this side begins.
    fn new(keys: &Keys, identity: Option<&str>, now: Instant) -> Option<Self> {
        let said = Arc::new(Said { keys: keys.clone(), identity: Mutex::default() });
        let config = match identity {
            Some(identity) => Config::builder().with_psk_client(identity.into(), Arc::clone(&said) as _),
            None => Config::builder().with_psk_server(None, Arc::clone(&said) as _),
        };
        let config = config.build().ok()?;
        let mut dtls = Dtls::new_12_psk(Arc::new(config), now.into_std());
        dtls.set_active(identity.is_some());
        // Also begins the handshake.
        dtls.handle_timeout(now.into_std()).ok()?;
        Some(Self { dtls, said, is_connected: false, waiting: VecDeque::new(), due: None, touched: now })
    }

    fn identity(&self) -> Option<Arc<str>> {
        self.said
            .identity
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .filter(|_| self.is_connected)
    }

    fn send(&mut self, message: Bytes) -> State {
        if !self.is_connected {
            if self.waiting.len() < WAITING_MAX {
                self.waiting.push_back(message);
            }
            return State::Open;
        }
        match self.dtls.send_application_data(&message) {
            Ok(_) => State::Open,
            Err(_) => State::Closed,
        }
    }

    /// Takes out what there is to send and to read.
    fn drain(&mut self, records: &mut Vec<Vec<u8>>, messages: &mut Vec<Vec<u8>>) -> State {
        let mut buffer = vec![0; 2048];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(record) => records.push(record.to_vec()),
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::ApplicationData(message) => messages.push(message.to_vec()),
                Output::CloseNotify => return State::Closed,
                Output::Connected => {
                    self.is_connected = true;
                    for message in std::mem::take(&mut self.waiting) {
                        if matches!(self.send(message), State::Closed) {
                            return State::Closed;
                        }
                    }
                }
                Output::Timeout(due) => {
                    self.due = Some(due);
                    return State::Open;
                }
                _ => {}
            }
        }
    }
}

/// Of a DTLS record (RFC 6347, section 4.1).
fn is_client_hello(record: &[u8]) -> bool {
    matches!(record, [22, _, _, 0, 0, ..]) && record.get(13) == Some(&1)
}

fn is_of_a_handshake(record: &[u8]) -> bool {
    matches!(record.first(), Some(20 | 22))
}

impl Secure {
    pub(crate) fn new(socket: UdpSocket, keys: Keys, identities: Identities) -> Self {
        Self {
            socket,
            keys,
            identities,
            tunnels: HashMap::new(),
            again: HashMap::new(),
            outgoing: Vec::new(),
            ready: VecDeque::new(),
        }
    }

    fn receive(&mut self, address: SocketAddr, datagram: &[u8], now: Instant) {
        let is_hello = is_client_hello(datagram);
        let is_known = self.tunnels.get(&address).is_some_and(|tunnel| tunnel.is_connected || !is_hello);
        if is_known && is_hello && !self.again.contains_key(&address) {
            make_room(&mut self.again);
            if let Some(tunnel) = Tunnel::new(&self.keys, None, now) {
                self.again.insert(address, tunnel);
            }
        }
        let restarts = is_of_a_handshake(datagram) && self.again.contains_key(&address);
        if !restarts && !self.tunnels.contains_key(&address) {
            // Only a hello begins anything.
            if !is_hello {
                return;
            }
            make_room(&mut self.tunnels);
            let Some(tunnel) = Tunnel::new(&self.keys, None, now) else { return };
            self.tunnels.insert(address, tunnel);
        }
        let tunnels = if restarts { &mut self.again } else { &mut self.tunnels };
        let Some(tunnel) = tunnels.get_mut(&address) else { return };
        tunnel.touched = now;
        let is_well =
            tunnel.dtls.handle_timeout(now.into_std()).is_ok() && tunnel.dtls.handle_packet(datagram).is_ok();
        if !is_well {
            // What it has to say of the failure still goes out.
            self.drain(address, restarts);
            let tunnels = if restarts { &mut self.again } else { &mut self.tunnels };
            tunnels.remove(&address);
            return;
        }
        self.drain(address, restarts);
        if restarts && self.again.get(&address).is_some_and(|tunnel| tunnel.is_connected) {
            self.tunnels.extend(self.again.remove(&address).map(|tunnel| (address, tunnel)));
        }
    }

    fn drain(&mut self, address: SocketAddr, restarts: bool) {
        let tunnels = if restarts { &mut self.again } else { &mut self.tunnels };
        let Some(tunnel) = tunnels.get_mut(&address) else { return };
        let (mut records, mut messages) = (Vec::new(), Vec::new());
        let state = tunnel.drain(&mut records, &mut messages);
        if matches!(state, State::Closed) {
            tunnels.remove(&address);
        }
        self.outgoing.extend(records.into_iter().map(|record| (address, record)));
        let peer = Peer { address, is_secure: true };
        self.ready.extend(messages.into_iter().map(|message| (peer, message)));
    }

    fn send(&mut self, address: SocketAddr, message: Bytes, now: Instant) {
        if !self.tunnels.contains_key(&address) {
            let Some(identity) = self.identities.of(address) else { return };
            make_room(&mut self.tunnels);
            let Some(tunnel) = Tunnel::new(&self.keys, Some(&identity), now) else { return };
            self.tunnels.insert(address, tunnel);
        }
        if let Some(tunnel) = self.tunnels.get_mut(&address) {
            tunnel.touched = now;
            if matches!(tunnel.send(message), State::Closed) {
                self.tunnels.remove(&address);
            }
        }
        self.drain(address, false);
    }

    /// The next message begins a tunnel anew, where this side can.
    fn lost(&mut self, address: SocketAddr) {
        if self.identities.of(address).is_none() {
            return;
        }
        if let Some(tunnel) = self.tunnels.get_mut(&address).filter(|tunnel| tunnel.is_connected) {
            // One that was just slow learns of it.
            let _ = tunnel.dtls.close();
            self.drain(address, false);
            self.tunnels.remove(&address);
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let dues = self.tunnels.values().chain(self.again.values()).filter_map(|tunnel| tunnel.due);
        dues.min().map(Instant::from_std)
    }

    fn tick(&mut self, now: Instant) {
        for restarts in [false, true] {
            let tunnels = if restarts { &mut self.again } else { &mut self.tunnels };
            let is_due = |tunnel: &Tunnel| tunnel.due.is_some_and(|due| due <= now.into_std());
            let due: Vec<_> =
                tunnels.iter().filter(|(_, tunnel)| is_due(tunnel)).map(|(address, _)| *address).collect();
            for address in due {
                let tunnels = if restarts { &mut self.again } else { &mut self.tunnels };
                let Some(tunnel) = tunnels.get_mut(&address) else { continue };
                tunnel.due = None;
                match tunnel.dtls.handle_timeout(now.into_std()) {
                    Ok(()) => self.drain(address, restarts),
                    Err(_) => drop(tunnels.remove(&address)),
                }
            }
        }
    }

    fn close(&mut self) {
        let addresses: Vec<_> = self.tunnels.keys().copied().collect();
        for address in addresses {
            if let Some(tunnel) = self.tunnels.get_mut(&address)
                && tunnel.dtls.close().is_ok()
            {
                self.drain(address, false);
            }
        }
    }
}

fn make_room(tunnels: &mut HashMap<SocketAddr, Tunnel>) {
    if tunnels.len() < TUNNELS_MAX {
        return;
    }
    let oldest = tunnels.iter().min_by_key(|(_, tunnel)| (tunnel.is_connected, tunnel.touched));
    if let Some(address) = oldest.map(|(address, _)| *address) {
        tunnels.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    /// Of who speaks to `far`, and is spoken to.
    async fn secure(far: SocketAddr) -> Secure {
        let keys = Keys(Arc::new([("gate".into(), b"secret".to_vec())].into()));
        let identities = Identities::default();
        identities.know(far, "gate");
        Secure::new(UdpSocket::bind("127.0.0.1:0").await.unwrap(), keys, identities)
    }

    /// Brings each what the other one sends, and returns what arrives at the second, which is at port 2.
    fn exchange(first: &mut Secure, second: &mut Secure) -> Vec<Vec<u8>> {
        let now = Instant::now();
        while !first.outgoing.is_empty() || !second.outgoing.is_empty() {
            for (_, record) in std::mem::take(&mut first.outgoing) {
                second.receive(at(1), &record, now);
            }
            for (_, record) in std::mem::take(&mut second.outgoing) {
                first.receive(at(2), &record, now);
            }
        }
        second.ready.drain(..).map(|(_, message)| message).collect()
    }

    #[test]
    fn a_peer_has_one_address_and_keeps_its_scope() {
        for (seen, is) in [
            ("[::ffff:10.0.0.7]:5683", "10.0.0.7:5683"),
            ("10.0.0.7:5683", "10.0.0.7:5683"),
            ("[fe80::1%3]:5683", "[fe80::1%3]:5683"),
        ] {
            assert_eq!(canonical(seen.parse().unwrap()).to_string(), is);
        }
    }

    #[tokio::test]
    async fn a_node_that_was_restarted_is_reached_once_it_did_not_answer() {
        let (mut own, mut node) = (secure(at(2)).await, secure(at(1)).await);
        own.send(at(2), Bytes::from_static(b"one"), Instant::now());
        assert_eq!(exchange(&mut own, &mut node), [b"one"]);
        let mut node = secure(at(1)).await;
        own.send(at(2), Bytes::from_static(b"two"), Instant::now());
        assert!(exchange(&mut own, &mut node).is_empty());
        own.lost(at(2));
        own.send(at(2), Bytes::from_static(b"three"), Instant::now());
        assert_eq!(exchange(&mut own, &mut node), [b"three"]);
    }
}
