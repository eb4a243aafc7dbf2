//! What a driver must hold to whose peers are told nothing of their readings: `sandbar_ingress::silent_driver_contract!(It)`.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use sandbar_reading::{Inbound, Refused, settings};
use serde_json::Value;

use super::{LONG, StandIn, in_time, running, supervise};
use crate::{Driver, State, Supervised};

/// The far end, as a test plays it.
pub trait SilentPeer: Send + Sync + Sized {
    type Driver: Driver;

    /// Settings with which the driver works against this peer: it takes all that the peer says.
    fn prepare() -> impl Future<Output = (Self, Value)> + Send;

    /// Is called once the driver runs; `address` is where it listens, if it does.
    fn reach(&mut self, _address: Option<SocketAddr>) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Has the driver make a reading that tells of `number`.
    fn tell(&mut self, number: u8) -> impl Future<Output = ()> + Send;

    /// Whether the reading tells of it.
    fn tells(inbound: &Inbound, number: u8) -> bool;

    /// Says something that is not of the protocol.
    fn tell_garbage(&mut self, bytes: Bytes) -> impl Future<Output = ()> + Send;

    /// Says half of something, if that can be.
    fn tell_half(&mut self) -> impl Future<Output = ()> + Send;

    /// Is gone without a farewell.
    fn vanish(&mut self) -> impl Future<Output = ()> + Send;

    /// Is back.
    fn come_back(&mut self) -> impl Future<Output = ()> + Send;
}

struct Bench<P> {
    peer: P,
    host: std::sync::Arc<StandIn>,
    ingress: Supervised,
}

impl<P: SilentPeer> Bench<P> {
    async fn start() -> Self {
        let (mut peer, table) = P::prepare().await;
        let host = StandIn::new();
        let ingress = supervise::<P::Driver>(table, &host);
        peer.reach(running(&ingress).await.address).await;
        Self { peer, host, ingress }
    }

    async fn takes(&mut self, number: u8) {
        self.peer.tell(number).await;
        in_time(self.has(number)).await;
    }

    async fn has(&self, number: u8) {
        let mut taken = 0;
        loop {
            let all = self.host.wait_taken(taken + 1).await;
            if all[taken..].iter().any(|taken| P::tells(&taken.inbound, number)) {
                return;
            }
            taken = all.len();
        }
    }
}

pub fn example_builds<P: SilentPeer>() {
    let example: Value = toml::from_str(P::Driver::EXAMPLE).expect("the example is TOML");
    let built = settings(example).and_then(P::Driver::new);
    assert!(built.is_ok(), "{}", built.err().map(|error| error.to_string()).unwrap_or_default());
}

pub async fn takes_what_is_told<P: SilentPeer>() {
    let mut bench = Bench::<P>::start().await;
    for number in 1..=3 {
        bench.takes(number).await;
    }
    assert_eq!(bench.ingress.status().sessions, 1);
}

pub async fn loses_nothing_while_it_is_refused<P: SilentPeer>() {
    let mut bench = Bench::<P>::start().await;
    bench.takes(1).await;
    for refused in [
        Refused::Busy { retry_after: Duration::from_millis(50) },
        Refused::DiskFull,
        Refused::Storage { cause: "input/output error".to_owned() },
    ] {
        bench.host.refuse(refused);
    }
    bench.takes(2).await;
}

pub async fn stops_at_once<P: SilentPeer>() {
    let mut bench = Bench::<P>::start().await;
    bench.takes(1).await;
    bench.peer.tell_half().await;
    let stopped = tokio::time::timeout(Duration::from_secs(1), bench.ingress.stop(LONG)).await;
    assert!(stopped.is_ok(), "still runs a second after it was told to stop");
    assert_eq!((bench.ingress.status().state, bench.host.devices()), (State::Stopped, vec![]));
}

pub async fn survives_garbage_and_a_lost_peer<P: SilentPeer>() {
    let mut bench = Bench::<P>::start().await;
    let mut noise: Vec<u8> = (0..=255).cycle().take(4096).collect();
    for _ in 0..4 {
        in_time(bench.peer.tell_garbage(Bytes::from(noise.clone()))).await;
        noise.reverse();
        noise.truncate(noise.len() / 3);
    }
    bench.takes(1).await;
    for number in 2..=3 {
        bench.peer.tell_half().await;
        bench.peer.vanish().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        bench.peer.come_back().await;
        running(&bench.ingress).await;
        bench.takes(number).await;
    }
    let error = bench.ingress.status().last_error;
    assert!(error.as_ref().is_none_or(|error| !error.text.contains("bug")), "{error:?}");
}

/// The tests of the contract, for a [`SilentPeer`].
#[macro_export]
macro_rules! silent_driver_contract {
    ($peer:ty) => {
        $crate::silent_driver_contract! { @each $peer:
            takes_what_is_told, loses_nothing_while_it_is_refused, stops_at_once, survives_garbage_and_a_lost_peer
        }

        #[test]
        fn example_builds() {
            $crate::contract::silent::example_builds::<$peer>();
        }
    };
    (@each $peer:ty: $($case:ident),+) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::contract::silent::$case::<$peer>().await;
            }
        )+
    };
}
