//! How long it is waited for peers that do not take what is sent to them.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::Session;

/// How long a peer may take to take what is sent to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The same when the session stops.
pub(crate) const DRAIN: Duration = Duration::from_millis(250);

/// Whether it was done, without an error, before the peer had to.
pub(crate) async fn in_time<E>(session: &Session, sending: impl Future<Output = Result<(), E>>) -> bool {
    let mut sending = pin!(sending);
    // Nearly always there is room for it at once. What waiting needs is made only where there is not: of many idle
    // connections none has room for it.
    if let Poll::Ready(sent) = futures::poll!(&mut sending) {
        return sent.is_ok();
    }
    let stopping = async {
        session.stopped().await;
        tokio::time::sleep(DRAIN).await;
    };
    let waiting = async {
        tokio::select! {
            sent = tokio::time::timeout(WRITE_TIMEOUT, sending) => matches!(sent, Ok(Ok(()))),
            () = stopping => false,
        }
    };
    Box::pin(waiting).await
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::contract::StandIn;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_not_waited_for_long() {
        let (host, stop) = (StandIn::new(), CancellationToken::new());
        let session = Session::new("tested".parse().unwrap(), Arc::clone(&host) as _, stop.clone());
        assert!(in_time(&session, async { io::Result::Ok(()) }).await);
        assert!(!in_time(&session, async { Err(io::Error::other("gone")) }).await);
        let slow = async {
            tokio::time::sleep(Duration::from_secs(29)).await;
            io::Result::Ok(())
        };
        assert!(in_time(&session, slow).await);
        let never = std::future::pending::<io::Result<()>>;
        let began = Instant::now();
        assert!(!in_time(&session, never()).await);
        assert_eq!(began.elapsed().as_secs(), 30);
        stop.cancel();
        let began = Instant::now();
        assert!(!in_time(&session, never()).await);
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}
