//! What a change of the contract means for components that are there already.

/// The first that applies, from the worst.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Same,
    /// Components may use what is no longer there.
    Broken {
        missing: Vec<String>,
    },
    /// Components do not have what the host would call.
    NewExports {
        added: Vec<String>,
    },
    /// Harmless, and to be written down.
    Unlisted {
        added: Vec<String>,
    },
}

/// `listed` is what components were built against, `actual` what they would meet.
pub(crate) fn compare(listed: &[String], actual: &[String]) -> Verdict {
    let not_in = |lines: &[String], others: &[String]| -> Vec<String> {
        lines.iter().filter(|line| !others.contains(line)).cloned().collect()
    };
    let missing = not_in(listed, actual);
    let added = not_in(actual, listed);
    let exports: Vec<_> = added.iter().filter(|line| line.contains(" export ")).cloned().collect();
    if !missing.is_empty() {
        Verdict::Broken { missing }
    } else if !exports.is_empty() {
        Verdict::NewExports { added: exports }
    } else if !added.is_empty() {
        Verdict::Unlisted { added }
    } else {
        Verdict::Same
    }
}

impl Verdict {
    /// What to do about it.
    pub(crate) fn advice(&self, version: &str) -> String {
        const BUMP: &str = "Undo it; or give the package in wit/handler.wit its next minor version, list it in a \
                            file of its own, say how the host serves components of both, and add a page to \
                            docs/decisions/.";
        match self {
            Self::Same => "nothing changed".to_owned(),
            Self::Broken { missing } => format!(
                "Components built for {version} may use this, and would not find it any more:\n\n{}\n\n{BUMP}\n",
                missing.join("\n")
            ),
            Self::NewExports { added } => format!(
                "Components built for {version} do not export this:\n\n{}\n\n{BUMP}\n",
                added.join("\n")
            ),
            Self::Unlisted { added } => format!(
                "This is new and breaks nothing. Add it to wit/contract-{version}.txt, from then on it stays:\
                 \n\n{}\n",
                added.join("\n")
            ),
        }
    }
}
