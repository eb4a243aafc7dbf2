//! What there is to configure.

use std::fmt;

/// The kinds of things that can be asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    Module,
    Route,
    Ingress,
    Sink,
    Reading,
    DeadLetter,
    Replay,
    Device,
    Resource,
    Command,
}

impl What {
    /// The path of its table: `ingress.web`.
    pub(crate) fn table(self, name: impl fmt::Display) -> String {
        format!("{self}.{name}")
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Module => "module",
            Self::Route => "route",
            Self::Ingress => "ingress",
            Self::Sink => "sink",
            Self::Reading => "reading",
            Self::DeadLetter => "dead letter",
            Self::Replay => "replay",
            Self::Device => "device",
            Self::Resource => "resource",
            Self::Command => "command",
        })
    }
}
