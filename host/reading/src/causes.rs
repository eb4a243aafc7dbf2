//! Errors in one line.

use std::error::Error;

/// `error: its source: the source of that: …`
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading a file")]
    struct Outer(#[source] io::Error);

    #[test]
    fn says_what_happened_and_why() {
        assert_eq!(with_causes(&Outer(io::Error::other("it is gone"))), "reading a file: it is gone");
    }
}
