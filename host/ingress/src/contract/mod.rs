//! What every driver must hold to, as tests that a driver's own tests run with a peer of its protocol:
//! `sandbar_ingress::driver_contract!(MyPeer);`

pub mod silent;
mod stand_in;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sandbar_reading::{Name, Refused, settings};
use serde_json::Value;

pub use self::stand_in::{Ending, StandIn, Taken};
use crate::{Driver, State, Status, Supervised, Supervisor, SupervisorOptions};

/// The far end, as a test plays it.
pub trait Peer: Send + Sync + Sized {
    type Driver: Driver;

    /// What is refused for a time is kept by the driver, or by the peer without being told, and offered again until
    /// it is taken.
    const HOLDS_BACK: bool = false;

    /// Settings with which the driver works against this peer: ports are 0, or of what this made ready.
    fn prepare() -> impl Future<Output = (Self, Value)> + Send;

    /// Is called once the driver runs; `address` is where it listens, if it does.
    fn reach(&mut self, address: Option<SocketAddr>) -> impl Future<Output = ()> + Send;

    /// Sends one inbound of about `payload`, and resolves with what the driver said of it. It waits for
    /// that as long as it takes.
    fn send(&self, payload: Bytes) -> impl Future<Output = Told> + Send;

    /// What the protocol has to say for `refused`. Where it holds back, that is asked of what is too large alone.
    fn told_for(&self, refused: &Refused) -> Told;

    /// Sends bytes that are not of the protocol, and is lost without a farewell.
    fn send_garbage(&self, bytes: Bytes) -> impl Future<Output = ()> + Send;

    /// Begins to send an inbound, and stops in the middle of it. The link lives until the value is dropped.
    fn send_half(&self) -> impl Future<Output = Box<dyn Send>> + Send;

    /// Links, and says nothing.
    fn idle(&self) -> impl Future<Output = Box<dyn Send>> + Send;
}

/// What a driver said of an inbound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Acknowledged,
    /// In the protocol's terms: `503`.
    Refused(String),
    /// The link ended first.
    Nothing,
}

/// A driver, a peer of it, and a stand-in for the host.
pub struct Bench<P> {
    pub peer: P,
    pub host: Arc<StandIn>,
    pub ingress: Supervised,
}

/// Longer than anything here takes; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(20);

impl<P: Peer> Bench<P> {
    pub async fn start() -> Self {
        let (mut peer, table) = P::prepare().await;
        let host = StandIn::new();
        let ingress = supervise::<P::Driver>(table, &host);
        peer.reach(running(&ingress).await.address).await;
        Self { peer, host, ingress }
    }
}

/// Runs a driver with `table`, its settings, against `host`.
///
/// # Panics
/// If the settings are refused.
pub fn supervise<D: Driver>(table: Value, host: &Arc<StandIn>) -> Supervised {
    let driver = settings(table).and_then(D::new).expect("the test's settings");
    let name: Name = "tested".parse().expect("it is a name");
    // Tests do not wait for what a peer would.
    let options = SupervisorOptions { backoff_min: Duration::from_millis(1), ..Default::default() };
    Supervisor::start(name, Box::new(driver), Arc::clone(host) as _, options)
}

/// # Panics
/// If it does not run in time.
pub async fn running(ingress: &Supervised) -> Status {
    in_time(ingress.wait_for(|status| status.state == State::Running)).await
}

/// # Panics
/// If `future` takes too long.
pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("took too long")
}

pub fn example_builds<P: Peer>() {
    let example: Value = toml::from_str(P::Driver::EXAMPLE).expect("the example is TOML");
    let built = settings(example).and_then(P::Driver::new);
    assert!(built.is_ok(), "{}", built.err().map(|error| error.to_string()).unwrap_or_default());
}

pub async fn accepts<P: Peer>() {
    let Bench { peer, host, ingress } = Bench::<P>::start().await;
    for (count, payload) in (1..).zip([&b"21.5"[..], b"\0\xff\r\n\r\n", b"{ \"t\":1 }"]) {
        assert_eq!(in_time(peer.send(Bytes::from_static(payload))).await, Told::Acknowledged);
        let taken = host.taken();
        assert_eq!(taken.len(), count);
        assert_eq!(taken[count - 1].inbound.payload, payload);
    }
    assert_eq!((ingress.status().accepted, ingress.status().sessions), (3, 1));
}

pub async fn acknowledges_after_the_receipt<P: Peer>() {
    let Bench { peer, host, ingress: _ingress } = Bench::<P>::start().await;
    host.hold();
    let mut sent = pin!(peer.send(Bytes::from_static(b"21.5")));
    tokio::select! {
        told = &mut sent => panic!("told {told:?} before the commit"),
        () = in_time(host.wait_offered(1)) => {}
    }
    // An acknowledgement that is on its way would be there by then.
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut sent).await.is_err());
    host.release();
    assert_eq!(in_time(sent).await, Told::Acknowledged);
}

pub async fn stops_at_once<P: Peer>() {
    let Bench { peer, host, ingress } = Bench::<P>::start().await;
    let _links = (peer.idle().await, peer.send_half().await);
    assert_eq!(in_time(peer.send(Bytes::from_static(b"21.5"))).await, Told::Acknowledged);
    let stopped = tokio::time::timeout(Duration::from_secs(1), ingress.stop(LONG)).await;
    assert!(stopped.is_ok(), "still runs a second after it was told to stop");
    assert_eq!(ingress.status().state, State::Stopped);
    assert_eq!(host.taken().len(), 1, "half an inbound is none");
    assert_eq!(host.devices(), []);
}

pub async fn survives_garbage_and_a_lost_peer<P: Peer>() {
    let Bench { peer, host, ingress } = Bench::<P>::start().await;
    let mut noise: Vec<u8> = (0..=255).cycle().take(4096).collect();
    for _ in 0..4 {
        in_time(peer.send_garbage(Bytes::from(noise.clone()))).await;
        noise.reverse();
        noise.truncate(noise.len() / 3);
    }
    drop((peer.idle().await, peer.send_half().await));
    assert_eq!(in_time(peer.send(Bytes::from_static(b"21.5"))).await, Told::Acknowledged);
    assert_eq!(host.taken().last().map(|taken| taken.inbound.payload.clone()), Some(Bytes::from("21.5")));
    let error = ingress.status().last_error;
    assert!(error.as_ref().is_none_or(|error| !error.text.contains("bug")), "{error:?}");
}

pub async fn refuses_in_its_own_terms<P: Peer>() {
    if P::HOLDS_BACK {
        return holds_back::<P>().await;
    }
    let Bench { peer, host, ingress: _ingress } = Bench::<P>::start().await;
    for refused in [
        Refused::Busy { retry_after: Duration::from_secs(2) },
        Refused::DiskFull,
        Refused::TooLarge { size: 5, limit: 4 },
        Refused::Storage { cause: "input/output error".to_owned() },
    ] {
        host.refuse(refused.clone());
        let told = in_time(peer.send(Bytes::from_static(b"21.5"))).await;
        assert_ne!(told, Told::Acknowledged, "{refused}");
        assert_eq!(told, peer.told_for(&refused), "{refused}");
    }
    assert!(host.taken().is_empty());
    assert_eq!(in_time(peer.send(Bytes::from_static(b"21.5"))).await, Told::Acknowledged);
}

async fn holds_back<P: Peer>() {
    let Bench { peer, host, ingress: _ingress } = Bench::<P>::start().await;
    let waits = [
        Refused::Busy { retry_after: Duration::from_millis(50) },
        Refused::DiskFull,
        Refused::Storage { cause: "input/output error".to_owned() },
    ];
    for (count, refused) in (1..).zip(waits) {
        host.refuse(refused.clone());
        assert_eq!(in_time(peer.send(Bytes::from_static(b"21.5"))).await, Told::Acknowledged, "{refused}");
        assert_eq!(host.taken().len(), count, "once each");
    }
    let refused = Refused::TooLarge { size: 5, limit: 4 };
    host.refuse(refused.clone());
    let told = tokio::time::timeout(Duration::from_secs(1), peer.send(Bytes::from_static(b"21.5"))).await;
    assert!(told.is_err() || told == Ok(peer.told_for(&refused)), "{told:?}");
    assert_eq!(
        in_time(peer.send(Bytes::from_static(b"22.5"))).await,
        Told::Acknowledged,
        "it is in nobody's way"
    );
    assert_eq!(host.taken().last().map(|taken| taken.inbound.payload.clone()), Some(Bytes::from("22.5")));
    assert_eq!(host.taken().len(), 4);
}

/// The tests of the contract, for a [`Peer`].
#[macro_export]
macro_rules! driver_contract {
    ($peer:ty) => {
        $crate::driver_contract! { @each $peer:
            accepts, acknowledges_after_the_receipt, stops_at_once, survives_garbage_and_a_lost_peer,
            refuses_in_its_own_terms
        }

        #[test]
        fn example_builds() {
            $crate::contract::example_builds::<$peer>();
        }
    };
    (@each $peer:ty: $($case:ident),+) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::contract::$case::<$peer>().await;
            }
        )+
    };
}
