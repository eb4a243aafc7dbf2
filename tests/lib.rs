//! What the tests of the whole host share: the real binary as a child process, and peers of our own making
//! for what is not under test.

#![allow(clippy::print_stdout, reason = "what a failing run is repeated with is printed")]

pub mod host;
pub mod kraken;
pub mod mutate;
pub mod publisher;
pub mod receiver;
pub mod seed;
pub mod sender;
pub mod targets;
pub mod tool;

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
