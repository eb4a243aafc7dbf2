//! Handing readings over, many at once and in order.

use std::time::Duration;

use futures::FutureExt;
use sandbar_reading::{Inbound, Refused, StateWrite};

use crate::{Session, exchange};

/// What became of a reading that was to be handed over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Handed {
    Taken,
    /// It has more bytes than a reading may have.
    TooLarge(Refused),
    /// It is to be offered again after so long; those after it were not offered, or are to be again as well.
    Later(Duration),
    /// The session stops.
    Stopping,
}

/// They share commits. None is begun after one that was refused for a time.
pub(super) async fn hand_over(session: &Session, readings: Vec<(Inbound, Vec<StateWrite>)>) -> Vec<Handed> {
    let mut under_way = Vec::with_capacity(readings.len());
    for (inbound, keep) in readings {
        let session = session.clone();
        let mut accepting = async move { session.accept_keeping(inbound, keep).await.map(drop) }.boxed();
        match futures::poll!(&mut accepting) {
            std::task::Poll::Pending => under_way.push(accepting),
            std::task::Poll::Ready(result) => {
                let goes_on = !matches!(handed(result.clone()), Handed::Later(_) | Handed::Stopping);
                under_way.push(std::future::ready(result).boxed());
                if !goes_on {
                    break;
                }
            }
        }
    }
    let mut told = Vec::with_capacity(under_way.len());
    for accepting in under_way {
        told.push(handed(accepting.await));
    }
    told
}

fn handed(result: Result<(), Refused>) -> Handed {
    match result {
        Ok(()) => Handed::Taken,
        Err(Refused::Stopping) => Handed::Stopping,
        Err(refused) => match exchange::wait(&refused) {
            Some(wait) => Handed::Later(wait),
            None => Handed::TooLarge(refused),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sandbar_reading::ContentType;

    use super::*;
    use crate::contract::StandIn;

    #[tokio::test]
    async fn none_overtakes_one_that_is_refused_for_a_time() {
        let host = StandIn::new();
        let session = Session::new("tested".parse().unwrap(), Arc::clone(&host) as _, <_>::default());
        let readings = || {
            let inbound =
                |n: usize| Inbound::new("a".parse().unwrap(), ContentType::TEXT, n.to_string().into());
            (0..3).map(|n| (inbound(n), Vec::new())).collect::<Vec<_>>()
        };
        host.refuse(Refused::DiskFull);
        assert_eq!(hand_over(&session, readings()).await, [Handed::Later(Duration::from_secs(1))]);
        assert!(host.taken().is_empty());
        let large = Refused::TooLarge { size: 2, limit: 1 };
        host.refuse(large.clone());
        let told = hand_over(&session, readings()).await;
        assert_eq!(told, [Handed::TooLarge(large), Handed::Taken, Handed::Taken]);
    }
}
