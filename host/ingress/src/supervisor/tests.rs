//! On tokio's paused clock: waits take no time, and are exact.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use sandbar_reading::{ContentType, Inbound};

use super::*;
use crate::contract::StandIn;

/// Does what the script says, session by session; after it, runs until it is stopped.
struct Scripted {
    script: Vec<Act>,
    sessions: AtomicUsize,
}

#[derive(Clone, Copy)]
enum Act {
    Fail,
    AcceptAndFail,
    Panic,
    End,
    Ignore,
}

impl AnyDriver for Scripted {
    fn driver(&self) -> &'static str {
        "scripted"
    }

    fn run(&self, session: Session) -> BoxFuture<'_, Result<(), LinkError>> {
        let act = self.script.get(self.sessions.fetch_add(1, Ordering::Relaxed)).copied();
        async move {
            match act {
                Some(Act::Fail) => Err(LinkError::new("asking a", std::io::Error::other("no answer"))),
                Some(Act::AcceptAndFail) => {
                    let inbound = Inbound::new("t".parse().unwrap(), ContentType::TEXT, Bytes::new());
                    let _ = session.accept(inbound).await.unwrap();
                    Err(LinkError::ended("the port was unplugged"))
                }
                Some(Act::Panic) => panic!("index out of bounds"),
                Some(Act::End) => Ok(()),
                Some(Act::Ignore) => std::future::pending().await,
                None => {
                    session.bound(([127, 0, 0, 1], 7).into());
                    session.stopped().await;
                    Ok(())
                }
            }
        }
        .boxed()
    }
}

fn start(script: &[Act]) -> Supervised {
    let driver = Scripted { script: script.to_vec(), sessions: AtomicUsize::new(0) };
    let name = "tested".parse().unwrap();
    Supervisor::start(name, Box::new(driver), StandIn::new(), SupervisorOptions::default())
}

async fn running(ingress: &Supervised) -> Status {
    ingress.wait_for(|status| status.state == State::Running).await
}

#[test]
fn waits_longer_after_each_failure() {
    let SupervisorOptions { backoff_min, backoff_max } = SupervisorOptions::default();
    let millis = |failures, random| backoff(backoff_min, backoff_max, failures, random).as_millis();
    let waits: Vec<u128> = [1, 2, 3, 7, 8, 9, u32::MAX].map(|failures| millis(failures, 0.0)).into();
    assert_eq!(waits, [250, 500, 1000, 16_000, 30_000, 30_000, 30_000]);
    assert_eq!(millis(1, 1.0), 125);
}

#[tokio::test(start_paused = true)]
async fn runs_again_after_failures_and_panics() {
    let ingress = start(&[Act::Fail, Act::Panic, Act::End]);
    let status = running(&ingress).await;
    assert_eq!((status.sessions, status.address), (4, Some(([127, 0, 0, 1], 7).into())));
    assert_eq!(status.last_error.unwrap().text, "the session ended by itself");
}

#[tokio::test(start_paused = true)]
async fn says_what_it_failed_of_and_when_it_tries_again() {
    let ingress = start(&[Act::Fail, Act::Panic]);
    let first = ingress.wait_for(|status| status.last_error.is_some()).await;
    assert_eq!(first.last_error.unwrap().text, "asking a: no answer");
    let State::BackingOff { until } = first.state else { panic!("{:?}", first.state) };
    let wait = until.since(first.since);
    assert!(wait >= Duration::from_millis(125) && wait <= Duration::from_millis(250), "{wait:?}");
    let second = ingress
        .wait_for(|status| {
            status.sessions == 2
                && status.address.is_none()
                && matches!(status.state, State::BackingOff { .. })
        })
        .await;
    assert_eq!(second.last_error.unwrap().text, "bug in the driver scripted: index out of bounds");
}

/// A link that works for a while and breaks, again and again, is not one that never works.
#[tokio::test(start_paused = true)]
async fn an_accepted_reading_resets_the_wait() {
    let begun = tokio::time::Instant::now();
    let ingress = start(&[Act::AcceptAndFail; 40]);
    let status = ingress.wait_for(|status| status.sessions == 41).await;
    assert_eq!((running(&ingress).await.accepted, status.sessions), (40, 41));
    assert!(
        begun.elapsed() <= Duration::from_millis(250) * 40 + Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn stops_between_sessions_and_within_one() {
    for script in [&[Act::Fail; 20][..], &[]] {
        let ingress = start(script);
        ingress.wait_for(|status| status.state != State::Starting).await;
        let begun = tokio::time::Instant::now();
        ingress.stop(Duration::from_secs(60)).await;
        assert_eq!((ingress.status().state, begun.elapsed()), (State::Stopped, Duration::ZERO));
        ingress.stop(Duration::from_secs(60)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_does_not_listen_is_dropped_after_the_grace() {
    let ingress = start(&[Act::Ignore]);
    ingress.wait_for(|status| status.sessions == 1).await;
    let begun = tokio::time::Instant::now();
    ingress.stop(Duration::from_secs(5)).await;
    assert_eq!((ingress.status().state, begun.elapsed().as_secs()), (State::Stopped, 5));
}
