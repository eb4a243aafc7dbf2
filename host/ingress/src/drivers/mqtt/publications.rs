//! What sinks send out through this ingress, to its subscribers.

use std::collections::VecDeque;
use std::sync::Arc;

use sandbar_reading::Refused;

use super::broker::Broker;
use super::inbound::outbound;
use super::publish::Submitted;
use crate::{CommandError, PublicationOffer};

/// So many wait for their commit at once.
const UNDER_WAY: usize = 256;

impl Broker {
    /// Never returns.
    pub(super) async fn publish_for_sinks(self: &Arc<Self>) {
        let mut publications = self.session.publications();
        let mut under_way: VecDeque<(Submitted, PublicationOffer)> = VecDeque::new();
        loop {
            let room = under_way.len() < UNDER_WAY;
            let first = async {
                match under_way.front_mut() {
                    Some((submitted, _)) => (&mut submitted.accept).await.map(|_| ()),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                result = first => {
                    if let Some((submitted, offer)) = under_way.pop_front() {
                        self.published(result, submitted, offer);
                    }
                }
                Some(offer) = publications.next(), if room => match outbound(&offer.message) {
                    _ if !offer.is_awaited() => {}
                    Ok(published) => under_way.push_back((self.submit_own(&published), offer)),
                    Err(problem) => offer.fail(CommandError::Reject(problem)),
                },
                // Another session has taken the place.
                else => std::future::pending().await,
            }
        }
    }

    fn published(&self, result: Result<(), Refused>, submitted: Submitted, offer: PublicationOffer) {
        match result {
            Ok(()) => {
                self.deliver(submitted.plan);
                offer.acknowledge();
            }
            Err(refused) => {
                self.abandon(&submitted.plan, true);
                offer.fail(CommandError::Retry(refused.to_string()));
            }
        }
    }
}
