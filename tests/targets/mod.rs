//! What reads what others write, and what holds of it whatever they write. Mistakes made at random (`tests/fuzz`) and
//! those that coverage leads to (`tests/fuzz-targets`) are thrown at the same.

pub mod bodies;
pub mod config;
pub mod packets;
pub mod topics;

pub struct Target {
    pub name: String,
    /// What it takes.
    pub seeds: Vec<Vec<u8>>,
    /// Whether it took it. It may refuse anything, and must not panic.
    pub check: Box<Check>,
}

type Check = dyn Fn(&[u8]) -> bool + Send + Sync;

/// A line of `sandbar_ingress::decoders::DECODERS`, which only tests see: its name, its seeds and itself.
pub type Decoder = (&'static str, &'static [&'static [u8]], fn(&[u8]) -> bool);

/// What drivers read, what the host itself reads, and each type of packet of MQTT alone.
pub fn all(decoders: impl Iterator<Item = Decoder> + Clone) -> Vec<Target> {
    let read = decoders.clone().map(|(name, seeds, decode)| Target::new(name, seeds, decode));
    let packets = decoders.filter(packets::is_mqtt).flat_map(packets::each);
    read.chain(of_the_host()).chain(packets).collect()
}

fn of_the_host() -> [Target; 5] {
    [
        Target::of_text("configuration", &config::files(), config::file),
        Target::of_text("configuration tables", &config::TABLES, config::tables),
        Target::of_text("bodies of readings", &bodies::READINGS, bodies::reading),
        Target::of_text("bodies", &bodies::OTHERS, bodies::other),
        Target::of_text("topics and filters", &topics::LINES, |text| topics::compare(text).matched > 0),
    ]
}

impl Target {
    fn new(
        name: impl Into<String>,
        seeds: &[impl AsRef<[u8]>],
        check: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
    ) -> Self {
        let seeds = seeds.iter().map(|seed| seed.as_ref().to_vec()).collect();
        Self { name: name.into(), seeds, check: Box::new(check) }
    }

    /// What is no text, it refuses.
    fn of_text(name: &str, seeds: &[impl AsRef<[u8]>], check: fn(&str) -> bool) -> Self {
        Self::new(name, seeds, move |bytes| std::str::from_utf8(bytes).is_ok_and(check))
    }
}
