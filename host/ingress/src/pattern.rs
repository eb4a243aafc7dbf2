//! Paths with named segments, and the topics and devices made from them. Pure.

use std::borrow::Cow;

/// `/hooks/{device}/{*rest}`.
#[derive(Debug)]
pub(crate) struct Pattern {
    segments: Vec<Segment>,
    /// Of the named segments, in order; a last `{*rest}` included.
    names: Vec<Box<str>>,
    /// It ends with `{*rest}`.
    open: bool,
}

#[derive(Debug)]
enum Segment {
    Is(Box<str>),
    Named,
}

/// What the named segments of a path hold, in the pattern's order, percent-decoded.
pub(crate) type Values<'a> = Vec<Cow<'a, str>>;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("must begin with `/`")]
    NoSlash,
    #[error("`{0}`: a segment is either text, or a name in braces: `{{device}}`, and last `{{*rest}}`")]
    Segment(String),
    #[error("`{0}` is there twice")]
    Twice(String),
    #[error("`{{*{0}}}` must be last")]
    NotLast(String),
    #[error("the path has no segment `{{{0}}}`")]
    Unknown(String),
    #[error("`{0}`: a brace is not closed")]
    Open(String),
}

/// The path is not text, or hides a slash in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadPath;

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        let rest = text.strip_prefix('/').ok_or(PatternError::NoSlash)?;
        let mut pattern = Self { segments: Vec::new(), names: Vec::new(), open: false };
        for segment in rest.split('/') {
            if pattern.open {
                let name = pattern.names.last().map_or("", |name| name);
                return Err(PatternError::NotLast(name.to_owned()));
            }
            pattern.push(segment)?;
        }
        Ok(pattern)
    }

    fn push(&mut self, segment: &str) -> Result<(), PatternError> {
        let Some(inner) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            if segment.contains(['{', '}']) {
                return Err(PatternError::Segment(segment.to_owned()));
            }
            self.segments.push(Segment::Is(segment.into()));
            return Ok(());
        };
        let name = inner.strip_prefix('*').unwrap_or(inner);
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            return Err(PatternError::Segment(segment.to_owned()));
        }
        if self.names.iter().any(|known| **known == *name) {
            return Err(PatternError::Twice(name.to_owned()));
        }
        self.names.push(name.into());
        match inner.starts_with('*') {
            true => self.open = true,
            false => self.segments.push(Segment::Named),
        }
        Ok(())
    }

    pub(crate) fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// The values of the named segments, if `path` fits. A named segment is not empty.
    pub(crate) fn matches<'a>(&self, path: &'a str) -> Result<Option<Values<'a>>, BadPath> {
        let mut values = Vec::with_capacity(self.names.len());
        let mut rest = path.strip_prefix('/');
        for segment in &self.segments {
            let Some(text) = rest else { return Ok(None) };
            let (part, deeper) = match text.split_once('/') {
                Some((part, deeper)) => (part, Some(deeper)),
                None => (text, None),
            };
            let part = decode(part)?;
            match segment {
                Segment::Is(wanted) if **wanted == *part => {}
                Segment::Named if !part.is_empty() => values.push(part),
                _ => return Ok(None),
            }
            rest = deeper;
        }
        match (self.open, rest) {
            (false, None) => Ok(Some(values)),
            (true, Some(text)) if !text.is_empty() => {
                values.push(decode(text)?);
                Ok(Some(values))
            }
            _ => Ok(None),
        }
    }
}

/// Percent-decoding (RFC 3986, section 2.1) of a part of a path. A slash in disguise would make one
/// segment into two levels of a topic: it is refused.
pub(crate) fn decode(text: &str) -> Result<Cow<'_, str>, BadPath> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let slashes = |text: &str| text.bytes().filter(|b| *b == b'/').count();
    let decoded = percent_decode(text, false).ok_or(BadPath)?;
    if slashes(&decoded) == slashes(text) { Ok(Cow::Owned(decoded)) } else { Err(BadPath) }
}

/// `None` if it is not UTF-8 in the end, or a `%` is followed by no hexadecimal digits.
pub(crate) fn percent_decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?,
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

pub(crate) fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// `sensors/{device}/raw`.
#[derive(Clone, Debug)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Text(Box<str>),
    /// The value at this place of [`Values`].
    Value(usize),
}

impl Template {
    pub(crate) fn parse(text: &str, names: &[Box<str>]) -> Result<Self, PatternError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            let (name, after) = after.split_once('}').ok_or_else(|| PatternError::Open(text.to_owned()))?;
            let place = names.iter().position(|known| **known == *name);
            pieces.push(Piece::Value(place.ok_or_else(|| PatternError::Unknown(name.to_owned()))?));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(Self(pieces))
    }

    pub(crate) fn fill(&self, values: &[Cow<'_, str>]) -> String {
        let mut text = String::with_capacity(64);
        for piece in &self.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Value(place) => text.push_str(values.get(*place).map_or("", |value| value)),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(pattern: &str, path: &str) -> Result<Option<Vec<String>>, BadPath> {
        let pattern = Pattern::parse(pattern).unwrap();
        Ok(pattern.matches(path)?.map(|values| values.into_iter().map(Cow::into_owned).collect()))
    }

    #[test]
    fn fits_whole_segments() {
        let table: [(&str, &str, Option<&[&str]>); 12] = [
            ("/hooks/{device}/{sensor}", "/hooks/a/b", Some(&["a", "b"])),
            ("/hooks/{device}/{sensor}", "/hooks/a", None),
            ("/hooks/{device}/{sensor}", "/hooks/a/b/c", None),
            ("/hooks/{device}", "/hooks/", None),
            ("/hooks/{device}", "/hooks/k%C3%BCche%201", Some(&["küche 1"])),
            ("/hooks/{device}", "/Hooks/a", None),
            ("/{*rest}", "/a/b%20c/d", Some(&["a/b c/d"])),
            ("/{*rest}", "/", None),
            ("/x/{*rest}", "/x", None),
            ("/", "/", Some(&[])),
            ("/a b", "/a%20b", Some(&[])),
            ("/hook", "/hook/", None),
        ];
        for (pattern, path, expected) in table {
            let expected = expected.map(|values| values.iter().map(|v| (*v).to_owned()).collect());
            assert_eq!(values(pattern, path), Ok(expected), "{pattern} on {path}");
        }
    }

    #[test]
    fn a_slash_in_disguise_is_no_level() {
        for path in ["/hooks/a%2Fb", "/hooks/a%2fb", "/hooks/%FF", "/hooks/%4", "/hooks/%zz"] {
            assert_eq!(values("/hooks/{device}", path), Err(BadPath), "{path}");
        }
        assert_eq!(values("/{*rest}", "/a/b%2Fc"), Err(BadPath));
    }

    #[test]
    fn refuses_patterns_that_cannot_work() {
        let error = |text| Pattern::parse(text).unwrap_err();
        assert_eq!(error("hooks"), PatternError::NoSlash);
        assert_eq!(error("/a{b}"), PatternError::Segment("a{b}".to_owned()));
        assert_eq!(error("/{}"), PatternError::Segment("{}".to_owned()));
        assert_eq!(error("/{a}/{a}"), PatternError::Twice("a".to_owned()));
        assert_eq!(error("/{*rest}/b"), PatternError::NotLast("rest".to_owned()));
    }

    #[test]
    fn templates_know_the_path() {
        let names: [Box<str>; 2] = ["device".into(), "sensor".into()];
        let template = Template::parse("sensors/{sensor}/of {device}", &names).unwrap();
        assert_eq!(template.fill(&["d".into(), "s".into()]), "sensors/s/of d");
        let unknown = Template::parse("{other}", &names).unwrap_err();
        assert_eq!(unknown, PatternError::Unknown("other".to_owned()));
        assert_eq!(Template::parse("{dev", &names).unwrap_err(), PatternError::Open("{dev".to_owned()));
    }

    proptest! {
        #[test]
        fn no_path_gives_a_segment_with_a_slash(path in "/([a-z%0-9/]|%2[Ff]|%[0-9a-f]{2}){0,12}") {
            let pattern = Pattern::parse("/{device}/{*rest}").unwrap();
            if let Ok(Some(values)) = pattern.matches(&path) {
                prop_assert!(!values[0].contains('/') && !values[0].is_empty());
            }
        }

        #[test]
        fn any_text_is_a_pattern_or_is_refused(text in "\\PC{0,24}") {
            let _ = Pattern::parse(&text);
            let _ = Template::parse(&text, &[]);
        }
    }
}
