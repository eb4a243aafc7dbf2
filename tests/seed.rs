//! Randomness that a failing test can be run with again.

/// `SANDBAR_SEED`, or a new one; printed, so that a failure tells it.
pub fn seed() -> u64 {
    let seed = match std::env::var("SANDBAR_SEED") {
        Ok(text) => text.parse().expect("SANDBAR_SEED is a number"),
        Err(_) => std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0),
    };
    println!("SANDBAR_SEED={seed}");
    seed
}

/// SplitMix64: small, seeded, good enough to choose what breaks next.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0..bound
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// One of them; there must be one.
    pub fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len() as u64) as usize]
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.draw() as u8).collect()
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
