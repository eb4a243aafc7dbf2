//! What the tests of the whole host share: the real binary as a child process, and peers of our own making
//! for what is not under test.

#![allow(clippy::print_stdout, reason = "what a failing run is repeated with is printed")]

pub mod bus;
pub mod host;
pub mod kraken;
pub mod mutate;
pub mod publisher;
pub mod receiver;
pub mod seed;
pub mod sender;
pub mod targets;
pub mod tool;

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

/// The root of the checkout whose tests these are. A target directory may serve several: it is not known when they are
/// compiled.
pub fn checkout() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    Path::new(&package).parent().expect("tests/ is in the workspace").to_owned()
}

/// Waits for `done` to be true, asking every 20 ms; panics with `what` after `seconds`.
pub async fn eventually<F>(what: &str, seconds: u64, mut done: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(seconds);
    while !done().await {
        assert!(tokio::time::Instant::now() < deadline, "not within {seconds} s: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// A port of the loopback that nobody has, neither for TCP nor for UDP. Not one of those that the system gives to whoever
/// wants any: another test could be given it before it is used.
pub fn free_port() -> std::io::Result<u16> {
    const FIRST: u64 = 10_000;
    const COUNT: u64 = 20_000;
    let mut last = None;
    for _ in 0..100 {
        let port = (FIRST + RandomState::new().hash_one(()) % COUNT) as u16;
        let place = (Ipv4Addr::LOCALHOST, port);
        match TcpListener::bind(place).and_then(|_tcp| UdpSocket::bind(place)) {
            Ok(_udp) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("it was tried"))
}
