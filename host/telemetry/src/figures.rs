//! Figures of a host at one moment, whoever they are shown to.

/// What is measured alike, once for each set of labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    pub name: &'static str,
    /// A sentence.
    pub help: &'static str,
    pub samples: Samples,
}

pub type Labels = Vec<(&'static str, String)>;

#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    /// It goes up and down, or only up since the host started.
    Numbers(Kind, Vec<(Labels, f64)>),
    Histograms(Vec<(Labels, Histogram)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gauge,
    Counter,
}

/// Since the host started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    pub sum: f64,
    pub count: u64,
    /// Up to where, and how many lie between that and the one before. The last has no end.
    pub buckets: Vec<(Option<f64>, u64)>,
}

impl Family {
    /// One number without labels.
    pub fn one(kind: Kind, name: &'static str, help: &'static str, value: f64) -> Self {
        Self::many(kind, name, help, vec![(Vec::new(), value)])
    }

    pub fn many(kind: Kind, name: &'static str, help: &'static str, samples: Vec<(Labels, f64)>) -> Self {
        Self { name, help, samples: Samples::Numbers(kind, samples) }
    }
}
