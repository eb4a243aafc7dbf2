//! How much goes over connections: in all, and a second.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::control::Inner;

/// Over how many seconds a rate is taken.
const WINDOW: usize = 10;

/// Since the start of the host, over all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    pub received: Flow,
    pub sent: Flow,
}

/// What goes one way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow {
    pub messages: u64,
    /// Of payload.
    pub bytes: u64,
    /// In the last ten seconds.
    pub messages_per_second: f64,
    pub bytes_per_second: f64,
}

/// The totals of the last seconds.
#[derive(Default)]
pub(crate) struct Rates(Mutex<VecDeque<(Instant, [u64; 4])>>);

impl Rates {
    fn note(&self, at: Instant, totals: [u64; 4]) {
        let mut samples = self.0.lock();
        samples.push_back((at, totals));
        if samples.len() > WINDOW {
            samples.pop_front();
        }
    }

    fn traffic(&self, at: Instant, totals: [u64; 4]) -> Traffic {
        let samples = self.0.lock();
        let (begin, before) = samples.front().copied().unwrap_or((at, totals));
        let seconds = at.duration_since(begin).as_secs_f64();
        let rate = |which: usize| match seconds > 0.0 {
            true => (totals[which] - before[which]) as f64 / seconds,
            false => 0.0,
        };
        let flow = |messages: usize, bytes: usize| Flow {
            messages: totals[messages],
            bytes: totals[bytes],
            messages_per_second: rate(messages),
            bytes_per_second: rate(bytes),
        };
        Traffic { received: flow(0, 1), sent: flow(2, 3) }
    }
}

impl Inner {
    pub(crate) fn traffic(&self) -> Traffic {
        self.rates.traffic(Instant::now(), self.totals())
    }

    fn totals(&self) -> [u64; 4] {
        let (received, sent) = self.pipeline.connections().traffic();
        [received.messages, received.bytes, sent.messages, sent.bytes]
    }

    /// Takes a sample every second, as long as the host is there.
    pub(crate) fn sample_rates(self: &Arc<Self>) {
        let inner = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut seconds = interval(Duration::from_secs(1));
            seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                seconds.tick().await;
                let Some(inner) = Weak::upgrade(&inner) else { return };
                if inner.sessions.is_cancelled() {
                    return;
                }
                inner.rates.note(Instant::now(), inner.totals());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_of_the_last_seconds() {
        let rates = Rates::default();
        let begin = Instant::now();
        assert_eq!(rates.traffic(begin, [5, 50, 0, 0]).received.messages_per_second, 0.0);
        for second in 0..30 {
            rates.note(begin + Duration::from_secs(second), [second * 2, second * 20, 0, 0]);
        }
        let traffic = rates.traffic(begin + Duration::from_secs(30), [60, 600, 1, 7]);
        assert_eq!((traffic.received.messages, traffic.received.messages_per_second), (60, 2.0));
        assert_eq!((traffic.received.bytes_per_second, traffic.sent.bytes), (20.0, 7));
    }
}
