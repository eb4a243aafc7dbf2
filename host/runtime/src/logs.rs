//! Lines that a handler writes during one call: bounded, whatever it does.

use std::sync::Arc;

use parking_lot::Mutex;

/// From the least to the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

/// One line of a handler's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub level: LogLevel,
    /// What the handler calls the part of it that speaks; `stdout` or `stderr` for what it printed.
    pub context: Box<str>,
    pub message: Box<str>,
}

/// Shared by an instance and its standard streams.
#[derive(Clone)]
pub(crate) struct Logs(Arc<Mutex<Inner>>);

struct Inner {
    lines: Vec<LogLine>,
    dropped: u64,
    lines_max: usize,
    line_bytes: usize,
}

const CONTEXT_BYTES: usize = 64;
/// What the host calls itself.
const OWN: &str = "sandbar";

impl Logs {
    pub(crate) fn new(lines_max: usize, line_bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner { lines: Vec::new(), dropped: 0, lines_max, line_bytes })))
    }

    pub(crate) fn line_bytes(&self) -> usize {
        self.0.lock().line_bytes
    }

    pub(crate) fn add(&self, level: LogLevel, context: &str, message: &str) {
        let mut inner = self.0.lock();
        if inner.lines.len() >= inner.lines_max {
            inner.dropped += 1;
            return;
        }
        let message = cut(message, inner.line_bytes);
        inner.lines.push(LogLine { level, context: cut(context, CONTEXT_BYTES), message });
    }

    /// A word of the host's own, however many lines there are.
    pub(crate) fn say(&self, level: LogLevel, message: &str) {
        let mut inner = self.0.lock();
        let message = cut(message, inner.line_bytes);
        inner.lines.push(LogLine { level, context: OWN.into(), message });
    }

    /// The lines so far, and a last one that counts what did not fit.
    pub(crate) fn take(&self) -> Vec<LogLine> {
        let mut inner = self.0.lock();
        let mut lines = std::mem::take(&mut inner.lines);
        match std::mem::take(&mut inner.dropped) {
            0 => {}
            dropped => lines.push(LogLine {
                level: LogLevel::Warn,
                context: OWN.into(),
                message: format!("{dropped} more lines of this call were dropped").into(),
            }),
        }
        lines
    }
}

pub(crate) fn cut(text: &str, bytes: usize) -> Box<str> {
    match text.len() <= bytes {
        true => text.into(),
        false => format!("{}…", &text[..text.floor_char_boundary(bytes)]).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_too_much_and_cuts_what_is_too_long() {
        let logs = Logs::new(1, 3);
        for message in ["aüü", "b", "c"] {
            logs.add(LogLevel::Info, "", message);
        }
        let messages: Vec<_> = logs.take().into_iter().map(|line| line.message).collect();
        assert_eq!(
            messages,
            ["aü…".into(), "2 more lines of this call were dropped".into()] as [Box<str>; 2]
        );
        assert!(logs.take().is_empty());
    }
}
