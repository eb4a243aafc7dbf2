//! What follows from offering a batch. Pure.

use std::time::Duration;

use sandbar_reading::{Target, Timestamp, backoff};
use sandbar_sinks::DeliveryError;
use sandbar_store::{Delivered, FailedDelivery, Next, Queued};

/// Nothing is given up on before its target has failed for so long by a clock that nobody sets: what is old by the
/// other one may be so because that was set forward.
const FAILING_MIN: Duration = Duration::from_secs(3600);

/// A far end that asks for a longer wait does not get it.
pub(super) const AFTER_MAX: Duration = Duration::from_secs(3600);

/// How a target's deliveries are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offering {
    pub batch_max: usize,
    pub batch_bytes: usize,
    /// The wait after the first failure; it doubles up to `longest_wait`.
    pub first_wait: Duration,
    pub longest_wait: Duration,
    /// A batch that takes longer has failed.
    pub timeout: Duration,
    /// A delivery that is older becomes a dead letter when it fails, and its target has failed for a while.
    pub give_up_after: Duration,
}

impl Offering {
    /// Whether a delivery of that time is given up on, if it fails.
    pub(super) fn gives_up_on(&self, time: Timestamp, now: Timestamp, failing: Duration) -> bool {
        failing >= FAILING_MIN.min(self.give_up_after) && now.since(time) >= self.give_up_after
    }
}

impl Default for Offering {
    fn default() -> Self {
        Self {
            batch_max: 100,
            batch_bytes: 4 << 20,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
            timeout: Duration::from_secs(60),
            give_up_after: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// What to commit, and how the target stands.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) delivered: Delivered,
    /// Set if the target failed: nothing should be offered to it before.
    pub(crate) closed_until: Option<Timestamp>,
    pub(crate) cause: Option<String>,
}

/// How the target has failed in a row before an offer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Failing {
    pub(crate) times: u32,
    pub(crate) time: Duration,
}

pub(crate) fn after_offer(
    target: &Target,
    batch: &[Queued],
    result: Result<(), DeliveryError>,
    offering: &Offering,
    failing: Failing,
    now: Timestamp,
    random: f64,
) -> Offered {
    let ids = |items: &[Queued]| items.iter().map(|queued| queued.delivery.id).collect::<Vec<_>>();
    let failed = |queued: &Queued, cause: &str, next| FailedDelivery {
        id: queued.delivery.id,
        attempts: queued.attempts + 1,
        cause: cause.to_owned(),
        next,
    };
    let (accepted, failed, closed_until, cause) = match result {
        Ok(()) => (ids(batch), Vec::new(), None, None),
        Err(DeliveryError::Reject { rejected, cause }) => {
            let (before, rest) = batch.split_at(rejected.min(batch.len().saturating_sub(1)));
            let cause = cause.to_string();
            let failed = rest.iter().take(1).map(|head| failed(head, &cause, Next::DeadLetter)).collect();
            (ids(before), failed, None, Some(cause))
        }
        Err(DeliveryError::Retry { delivered, after, cause }) => {
            let (before, rest) = batch.split_at(delivered.min(batch.len().saturating_sub(1)));
            let cause = cause.to_string();
            let wait = backoff(offering.first_wait, offering.longest_wait, failing.times + 1, random);
            let due = now.after(after.unwrap_or_default().min(AFTER_MAX).max(wait));
            let too_old = |queued: &Queued| offering.gives_up_on(queued.delivery.time, now, failing.time);
            let mut failures: Vec<_> = rest
                .iter()
                .filter(|queued| too_old(queued))
                .map(|queued| failed(queued, &cause, Next::DeadLetter))
                .collect();
            // Only the first of those that wait on has been refused by name.
            if let Some(head) = rest.first().filter(|head| !too_old(head)) {
                failures.push(failed(head, &cause, Next::RetryAt(due)));
            }
            (ids(before), failures, Some(due), Some(cause))
        }
    };
    Offered { delivered: Delivered { target: target.clone(), accepted, failed }, closed_until, cause }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sandbar_reading::{Attributes, ContentType, Delivery, DeliveryId, Message, ReadingId};
    use sandbar_sinks::Cause;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(10_000_000_000);

    fn queued(id: u128, age: Duration) -> Queued {
        let message = Message {
            topic: "t".parse().unwrap(),
            device: None,
            content_type: ContentType::TEXT,
            attributes: Attributes::new(),
            payload: "x".into(),
        };
        Queued {
            target: Target::Sink("s".parse().unwrap()),
            delivery: Arc::new(Delivery {
                id: DeliveryId::from_u128(id),
                reading: ReadingId::from_u128(1),
                route: "r".parse().unwrap(),
                time: NOW.before(age),
                message,
            }),
            attempts: 0,
            due: NOW,
            last_cause: None,
        }
    }

    fn check(batch: &[Queued], result: Result<(), DeliveryError>) -> (Vec<u128>, Vec<(u128, bool)>, bool) {
        check_after(FAILING_MIN, batch, result)
    }

    fn check_after(
        failing: Duration,
        batch: &[Queued],
        result: Result<(), DeliveryError>,
    ) -> (Vec<u128>, Vec<(u128, bool)>, bool) {
        let target = batch[0].target.clone();
        let failing = Failing { times: 0, time: failing };
        let offered = after_offer(&target, batch, result, &Offering::default(), failing, NOW, 0.0);
        (
            offered.delivered.accepted.iter().map(|id| id.as_u128()).collect(),
            offered.delivered.failed.iter().map(|f| (f.id.as_u128(), f.next == Next::DeadLetter)).collect(),
            offered.closed_until.is_some(),
        )
    }

    fn batch() -> Vec<Queued> {
        (1..=4).map(|id| queued(id, Duration::from_secs(1))).collect()
    }

    fn retry(delivered: usize) -> Result<(), DeliveryError> {
        Err(DeliveryError::Retry { delivered, after: None, cause: Cause::new("down") })
    }

    #[test]
    fn what_was_taken_before_the_failure_is_not_offered_again() {
        assert_eq!(check(&batch(), Ok(())), (vec![1, 2, 3, 4], vec![], false));
        assert_eq!(check(&batch(), retry(2)), (vec![1, 2], vec![(3, false)], true));
        let reject = Err(DeliveryError::Reject { rejected: 1, cause: Cause::new("bad") });
        assert_eq!(check(&batch(), reject), (vec![1], vec![(2, true)], false));
    }

    #[test]
    fn what_is_too_old_is_given_up_on_together() {
        let week = Offering::default().give_up_after;
        let mut batch = batch();
        batch[1] = queued(2, week);
        batch[2] = queued(3, week);
        assert_eq!(check(&batch, retry(0)).1, [(2, true), (3, true), (1, false)]);
    }

    /// A box without a clock of its own is told the time after its start: all that waits is old then.
    #[test]
    fn what_a_set_clock_makes_old_is_not_given_up_on_at_the_first_failure() {
        let batch = [queued(1, Offering::default().give_up_after)];
        assert_eq!(check_after(Duration::ZERO, &batch, retry(0)).1, [(1, false)]);
        assert_eq!(check_after(FAILING_MIN, &batch, retry(0)).1, [(1, true)]);
        let hasty = Offering { give_up_after: Duration::from_secs(60), ..Offering::default() };
        assert!(hasty.gives_up_on(NOW.before(hasty.give_up_after), NOW, hasty.give_up_after));
    }

    #[test]
    fn a_sink_that_miscounts_does_no_harm() {
        assert_eq!(check(&batch(), retry(9)), (vec![1, 2, 3], vec![(4, false)], true));
    }

    #[test]
    fn the_far_end_may_ask_for_a_wait_of_an_hour_at_most() {
        let result = Err(DeliveryError::Retry {
            delivered: 0,
            after: Some(Duration::MAX),
            cause: Cause::new("later"),
        });
        let offered = after_offer(
            &batch()[0].target,
            &batch(),
            result,
            &Offering::default(),
            Failing::default(),
            NOW,
            0.0,
        );
        assert_eq!(offered.closed_until, Some(NOW.after(Duration::from_secs(3600))));
    }
}
