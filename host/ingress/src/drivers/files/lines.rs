//! Cutting what was appended to a file into lines. Pure.

/// A line, without what ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Where it begins, from the first of the bytes on.
    pub(crate) at: usize,
    pub(crate) text: &'a [u8],
    /// Where what follows it begins.
    pub(crate) end: usize,
}

/// The lines that are whole. One of more than `line_max` bytes is cut there. `is_end`: nothing more will be appended,
/// so that what has no line break at its end is a line, too. Empty lines are none.
pub(crate) fn cut(bytes: &[u8], line_max: usize, is_end: bool) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (size, end) = match rest.iter().take(line_max + 1).position(|byte| *byte == b'\n') {
            Some(size) => (size, at + size + 1),
            None if rest.len() > line_max => (line_max, at + line_max),
            None if is_end => (rest.len(), bytes.len()),
            None => break,
        };
        let text = &rest[..size];
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if !text.is_empty() {
            lines.push(Line { at, text, end });
        }
        at = end;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(bytes: &str, line_max: usize, is_end: bool) -> Vec<(usize, &str, usize)> {
        let lines = cut(bytes.as_bytes(), line_max, is_end);
        lines.into_iter().map(|line| (line.at, std::str::from_utf8(line.text).unwrap(), line.end)).collect()
    }

    #[test]
    fn lines_end_with_a_line_break_or_where_they_are_too_long() {
        assert_eq!(texts("a\nbc\r\n\nd", 10, false), [(0, "a", 2), (2, "bc", 6)]);
        assert_eq!(texts("a\nd", 10, true), [(0, "a", 2), (2, "d", 3)]);
        assert_eq!(texts("abcdef\n", 4, false), [(0, "abcd", 4), (4, "ef", 7)]);
        assert_eq!(texts("abcd", 4, false), []);
        assert_eq!(texts("abcd\n", 4, false), [(0, "abcd", 5)]);
        assert_eq!(texts("abcde", 4, false), [(0, "abcd", 4)]);
        assert_eq!(texts("", 4, true), []);
        assert_eq!(texts("\r\n\n", 4, true), []);
    }
}
