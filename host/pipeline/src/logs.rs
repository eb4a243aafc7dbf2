//! What handlers log, kept for those who ask: the newest lines of each route, and all of them as they come.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use sandbar_reading::{Name, ReadingId, Timestamp};
use sandbar_runtime::{LogLevel, LogLine};
use sandbar_store::Part;
use tokio::sync::broadcast;

/// How much is kept of a route.
const LINES_MAX: usize = 1000;
const BYTES_MAX: usize = 256 << 10;
/// How many a watcher may be behind; then it misses some, and is told how many.
const BEHIND_MAX: usize = 1024;

/// One line, and whose it is.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// Counts the lines of the route.
    pub number: u64,
    pub time: Timestamp,
    pub route: Name,
    pub reading: ReadingId,
    /// Of the module.
    pub version: u32,
    pub part: Part,
    pub line: LogLine,
}

impl LogRecord {
    fn size(&self) -> usize {
        size_of::<Self>() + self.line.context.len() + self.line.message.len()
    }
}

/// Who watches the lines of all routes.
#[derive(Clone)]
pub(crate) struct LogWatch(broadcast::Sender<Arc<LogRecord>>);

impl Default for LogWatch {
    fn default() -> Self {
        Self(broadcast::channel(BEHIND_MAX).0)
    }
}

impl LogWatch {
    pub(crate) fn watch(&self) -> broadcast::Receiver<Arc<LogRecord>> {
        self.0.subscribe()
    }
}

/// The newest lines of one route.
pub(crate) struct RouteLogs {
    kept: Mutex<Kept>,
    watch: LogWatch,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<Arc<LogRecord>>,
    bytes: usize,
    /// Of all lines that there ever were.
    count: u64,
}

/// Whose lines they are.
#[derive(Clone, Copy)]
pub(crate) struct Speaker<'a> {
    pub(crate) route: &'a Name,
    pub(crate) reading: ReadingId,
    pub(crate) version: u32,
    pub(crate) part: Part,
    pub(crate) time: Timestamp,
}

impl RouteLogs {
    pub(crate) fn new(watch: LogWatch) -> Self {
        Self { kept: Mutex::default(), watch }
    }

    pub(crate) fn add(&self, speaker: Speaker<'_>, lines: &[LogLine]) {
        let mut kept = self.kept.lock();
        for line in lines {
            let Speaker { route, reading, version, part, time } = speaker;
            let record = LogRecord {
                number: kept.count,
                time,
                route: route.clone(),
                reading,
                version,
                part,
                line: line.clone(),
            };
            kept.add(Arc::new(record), &self.watch);
        }
    }

    /// A line of the host's about a reading.
    pub(crate) fn say(&self, speaker: Speaker<'_>, level: LogLevel, message: String) {
        let line = LogLine { level, context: "sandbar".into(), message: message.into() };
        self.add(speaker, &[line]);
    }

    /// The newest `limit` lines of which `wanted` is true, oldest first.
    pub(crate) fn newest(&self, limit: usize, wanted: impl Fn(&LogRecord) -> bool) -> Vec<Arc<LogRecord>> {
        let kept = self.kept.lock();
        let mut found: Vec<_> =
            kept.lines.iter().rev().filter(|record| wanted(record)).take(limit).cloned().collect();
        found.reverse();
        found
    }
}

impl Kept {
    fn add(&mut self, record: Arc<LogRecord>, watch: &LogWatch) {
        self.count += 1;
        self.bytes += record.size();
        if watch.0.receiver_count() > 0 {
            // Watchers may have left meanwhile.
            drop(watch.0.send(record.clone()));
        }
        self.lines.push_back(record);
        while self.lines.len() > LINES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_no_more_than_there_is_room_for() {
        let logs = RouteLogs::new(LogWatch::default());
        let route: Name = "r".parse().unwrap();
        let speaker = |reading: u128| Speaker {
            route: &route,
            reading: ReadingId::from_u128(reading),
            version: 1,
            part: Part::Active,
            time: Timestamp::from_millis(1),
        };
        for reading in 0..3000 {
            logs.say(speaker(reading), LogLevel::Info, "x".repeat(100));
        }
        let all = logs.newest(usize::MAX, |_| true);
        assert_eq!(all.len(), LINES_MAX);
        assert_eq!(all.last().unwrap().reading, ReadingId::from_u128(2999));
        assert_eq!(all.last().unwrap().number, 2999);
        let one = logs.newest(10, |record| record.reading == ReadingId::from_u128(2500));
        assert_eq!(one.len(), 1);
        logs.say(speaker(1), LogLevel::Info, "x".repeat(BYTES_MAX));
        assert!(logs.newest(usize::MAX, |_| true).is_empty(), "it alone is too much");
    }
}
