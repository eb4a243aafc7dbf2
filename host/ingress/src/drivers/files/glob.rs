//! Patterns of file names: `*.csv`, `line-?/**/*.{jpg,png}`, `[ab]*`. Pure.

/// `?` and `*` stand for characters of a name, `**` for any folders, `[a-z]` and `[!a]` for one of these or none of
/// these, `{a,b}` for either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    /// Without alternatives in braces: each is a pattern of its own.
    alternatives: Vec<Vec<Piece>>,
    /// It has no slash: it is of names alone.
    of_name: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Is(char),
    One,
    Any,
    /// `**/`: any folders, or none.
    Folders,
    Set {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GlobError {
    #[error("must have at least one character")]
    Empty,
    #[error("`{0}`: a bracket or brace is not closed")]
    Open(String),
    #[error("`{0}` stands for more than {ALTERNATIVES_MAX} patterns")]
    Many(String),
    #[error("`{0}`: a path in the folder begins with no slash")]
    Absolute(String),
}

const ALTERNATIVES_MAX: usize = 64;

impl Glob {
    pub(crate) fn parse(text: &str) -> Result<Self, GlobError> {
        if text.is_empty() {
            return Err(GlobError::Empty);
        }
        if text.starts_with('/') {
            return Err(GlobError::Absolute(text.to_owned()));
        }
        let texts = alternatives(text)?;
        Ok(Self {
            of_name: !text.contains('/'),
            alternatives: texts.iter().map(|text| pieces(text)).collect::<Result<_, _>>()?,
        })
    }

    /// Of this name alone, whatever it has in it.
    pub(crate) fn exactly(name: &str) -> Self {
        Self { alternatives: vec![name.chars().map(Piece::Is).collect()], of_name: true }
    }

    /// `path` is the file's in the folder, with slashes.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let path = if self.of_name { path.rsplit('/').next().unwrap_or(path) } else { path };
        let path: Vec<char> = path.chars().collect();
        self.alternatives.iter().any(|pieces| fits(pieces, &path))
    }
}

/// One text for each of the choices in braces.
fn alternatives(text: &str) -> Result<Vec<String>, GlobError> {
    let mut done = vec![String::new()];
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let close = rest[open..].find('}').ok_or_else(|| GlobError::Open(text.to_owned()))? + open;
        let choices: Vec<&str> = rest[open + 1..close].split(',').collect();
        if done.len() * choices.len() > ALTERNATIVES_MAX {
            return Err(GlobError::Many(text.to_owned()));
        }
        let begun = done.iter().map(|begun| format!("{begun}{}", &rest[..open]));
        done = begun.flat_map(|begun| choices.iter().map(move |choice| format!("{begun}{choice}"))).collect();
        rest = &rest[close + 1..];
    }
    done.iter_mut().for_each(|begun| begun.push_str(rest));
    Ok(done)
}

fn pieces(text: &str) -> Result<Vec<Piece>, GlobError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let starts_level = pieces.is_empty() || pieces.last() == Some(&Piece::Is('/'));
        if let Some(deeper) = rest.strip_prefix("**/").filter(|_| starts_level) {
            pieces.push(Piece::Folders);
            rest = deeper;
        } else if rest == "**" && starts_level {
            pieces.extend([Piece::Folders, Piece::Any]);
            rest = "";
        } else if first == '[' {
            let (set, after) = set(&rest[1..]).ok_or_else(|| GlobError::Open(text.to_owned()))?;
            pieces.push(set);
            rest = after;
        } else {
            pieces.push(match first {
                '?' => Piece::One,
                '*' => Piece::Any,
                other => Piece::Is(other),
            });
            rest = &rest[first.len_utf8()..];
        }
    }
    // Two in a row say no more than one, and would be tried in every combination.
    pieces.dedup_by(|a, b| a == b && matches!(a, Piece::Any | Piece::Folders));
    Ok(pieces)
}

/// What is in brackets, of which the first is read, and what follows them.
fn set(text: &str) -> Option<(Piece, &str)> {
    let (negated, inner) = match text.strip_prefix(['!', '^']) {
        Some(inner) => (true, inner),
        None => (false, text),
    };
    // A bracket that closes at once is one of the characters.
    let skip = inner.chars().next()?.len_utf8();
    let close = skip + inner[skip..].find(']')?;
    let chars: Vec<char> = inner[..close].chars().collect();
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        if at + 2 < chars.len() && chars[at + 1] == '-' {
            ranges.push((chars[at], chars[at + 2]));
            at += 3;
        } else {
            ranges.push((chars[at], chars[at]));
            at += 1;
        }
    }
    Some((Piece::Set { negated, ranges }, &inner[close + 1..]))
}

/// For each piece, from which places of the path the rest can go on: time is bounded by their product.
fn fits(pieces: &[Piece], path: &[char]) -> bool {
    let mut from = vec![false; path.len() + 1];
    from[0] = true;
    for piece in pieces {
        let mut next = vec![false; path.len() + 1];
        match piece {
            Piece::Any => {
                let mut open = false;
                for at in 0..=path.len() {
                    open = from[at] || open && path[at - 1] != '/';
                    next[at] = open;
                }
            }
            Piece::Folders => {
                let mut open = false;
                for at in 0..=path.len() {
                    next[at] = from[at] || open && path[at - 1] == '/';
                    open |= from[at];
                }
            }
            one => {
                for at in 0..path.len() {
                    next[at + 1] = from[at] && one.is(path[at]);
                }
            }
        }
        from = next;
    }
    from[path.len()]
}

impl Piece {
    fn is(&self, c: char) -> bool {
        match self {
            Self::Is(own) => *own == c,
            Self::One => c != '/',
            Self::Set { negated, ranges } => {
                c != '/' && ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) != *negated
            }
            Self::Any | Self::Folders => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_fit_names_or_paths() {
        for (pattern, path, fits) in [
            ("*", "a.csv", true),
            ("*", "deep/a.csv", true),
            ("*.csv", "deep/a.csv", true),
            ("*.csv", "a.csv.gz", false),
            ("a?.csv", "ä1.csv", false),
            ("?1.csv", "ä1.csv", true),
            ("line-[0-9]/*.txt", "line-4/a.txt", true),
            ("line-[0-9]/*.txt", "line-4/deep/a.txt", false),
            ("line-[!0-9]/*", "line-4/a", false),
            ("**/*.txt", "a.txt", true),
            ("**/*.txt", "b/c/a.txt", true),
            ("b/**", "b/c/a.txt", true),
            ("b/**", "bc/a.txt", false),
            ("b/**/a.*", "b/a.txt", true),
            ("*.{jpg,png}", "x.png", true),
            ("*.{jpg,png}", "x.gif", false),
            ("{a,b}{1,2}", "b1", true),
            ("[]a]", "]", true),
            ("a**b", "axxb", true),
            ("x/*", "x", false),
        ] {
            assert_eq!(Glob::parse(pattern).unwrap().matches(path), fits, "{pattern} on {path}");
        }
    }

    #[test]
    fn a_name_is_no_pattern() {
        let name = Glob::exactly("a[1]*.log");
        assert!(name.matches("a[1]*.log") && !name.matches("a1x.log"));
    }

    #[test]
    fn refuses_what_is_no_pattern() {
        let error = |text: &str| Glob::parse(text).unwrap_err();
        assert_eq!(error(""), GlobError::Empty);
        assert_eq!(error("/a"), GlobError::Absolute("/a".to_owned()));
        assert_eq!(error("[a"), GlobError::Open("[a".to_owned()));
        assert_eq!(error("{a"), GlobError::Open("{a".to_owned()));
        assert!(matches!(error(&"{a,b}".repeat(7)), GlobError::Many(_)));
    }

    proptest! {
        #[test]
        fn any_text_is_a_pattern_or_is_refused(text in "[a-c*?\\[\\]{},!/-]{0,16}", path in "[a-c/]{0,12}") {
            if let Ok(glob) = Glob::parse(&text) {
                let _ = glob.matches(&path);
            }
        }
    }
}
