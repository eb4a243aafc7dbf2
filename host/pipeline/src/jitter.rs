//! Where the random part of waits comes from.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Clones share one sequence.
#[derive(Clone)]
pub(crate) struct Jitter(Arc<Mutex<StdRng>>);

impl Jitter {
    /// With a seed the sequence is always the same.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self(Arc::new(Mutex::new(seed.map_or_else(rand::make_rng, StdRng::seed_from_u64))))
    }

    /// 0.0..1.0
    pub(crate) fn next(&self) -> f64 {
        self.0.lock().random()
    }
}
