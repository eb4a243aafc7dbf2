//! Commands that have ended are forgotten when there are very many, whatever devices they were for: of one device the
//! newest are remembered, but of devices whose ids change there is no end.
//!
//! Rows are sorted by device. So a walk over all of them, a chunk with each commit, finds how old they are, and the next
//! one takes those that are too old for as many as there may be.

use std::time::Duration;

use redb::{ReadableTable, ReadableTableMetadata};
use sandbar_reading::Timestamp;

use super::apply::command;
use super::row::{COMMANDS, COMMANDS_DUE, due, split_command};
use crate::apply::Batch;
use crate::damaged::readable;
use crate::retention::{LOOK_AGAIN, again_in};

/// How far that has come.
#[derive(Clone, Debug)]
pub(crate) struct EndedCommands {
    /// How many commands there may be, about.
    most: u64,
    /// How many there are, at most. Before the first look nobody knows.
    count: Option<u64>,
    walk: Option<Walk>,
    /// The oldest that the last walk left.
    oldest: Option<u128>,
    /// Not before this is there another walk.
    again_at: Timestamp,
}

#[derive(Clone, Debug)]
struct Walk {
    /// Those with lesser ids go.
    before: u128,
    /// The key to go on with.
    next: Vec<u8>,
    oldest: Option<u128>,
}

impl EndedCommands {
    pub(crate) const fn new(most: u64) -> Self {
        Self { most, count: None, walk: None, oldest: None, again_at: Timestamp::from_nanos(0) }
    }

    /// The file was opened anew.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self::new(self.most);
    }

    /// So many rows were written; some of them may have been there before.
    pub(crate) fn written(&mut self, rows: usize) {
        self.count = self.count.map(|count| count + rows as u64);
    }

    pub(crate) fn due_in(&self, now: Timestamp) -> Option<Duration> {
        match self.count {
            None => Some(Duration::ZERO),
            Some(count) if count <= self.most => None,
            Some(_) if self.walk.is_some() => Some(Duration::ZERO),
            Some(_) => Some(again_in(self.again_at, now)),
        }
    }

    /// `newest`: the last id that was given out.
    fn walk(&mut self, newest: u128, count: u64) -> Walk {
        let before = || match self.oldest {
            Some(oldest) => newest - part(newest.saturating_sub(oldest), self.most, count),
            // Nothing is known of them yet.
            None => 0,
        };
        self.walk.take().unwrap_or_else(|| Walk { before: before(), next: Vec::new(), oldest: None })
    }
}

/// Of the time that `count` commands came in, that in which `most` of them did if they came evenly.
fn part(time: u128, most: u64, count: u64) -> u128 {
    let (most, count) = (u128::from(most), u128::from(count));
    time.checked_mul(most).map_or(time / count * most, |times| times / count)
}

impl Batch<'_> {
    /// Looks at so many commands. True if any was forgotten.
    pub(crate) fn forget_commands(
        &mut self,
        ended: &mut EndedCommands,
        rows: usize,
    ) -> Result<bool, redb::Error> {
        let transaction = self.tables.transaction;
        let mut commands = transaction.open_table(COMMANDS)?;
        let count = commands.len()?;
        ended.count = Some(count);
        if count <= ended.most {
            ended.walk = None;
            return Ok(false);
        }
        let mut walk = ended.walk(self.ledger.last_id, count);
        let (mut gone, mut last, mut looked_at) = (Vec::new(), Vec::new(), 0);
        for row in commands.range(&walk.next[..]..)?.take(rows) {
            let (key, row) = row?;
            looked_at += 1;
            last = key.value().to_vec();
            let Some((device, id)) = readable(split_command(key.value())) else { continue };
            let Some(command) = readable(command(&device, id, row.value())) else { continue };
            if command.state.waits() {
                continue;
            }
            if id < walk.before {
                gone.push((key.value().to_vec(), command.expires));
            } else {
                walk.oldest = Some(walk.oldest.map_or(id, |oldest| oldest.min(id)));
            }
        }
        for (key, expires) in &gone {
            commands.remove(&key[..])?;
            // One whose answer did not come has one yet.
            if let Some(expires) = expires {
                transaction.open_table(COMMANDS_DUE)?.remove(&due(*expires, key)[..])?;
            }
        }
        ended.count = Some(commands.len()?);
        if looked_at < rows {
            ended.oldest = walk.oldest;
            ended.again_at = self.now.after(LOOK_AGAIN);
        } else {
            last.push(0);
            ended.walk = Some(Walk { next: last, ..walk });
        }
        Ok(!gone.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_time_so_much_stays_as_may_of_the_commands() {
        assert_eq!(part(1000, 1, 4), 250);
        assert_eq!(part(3, 100, 300), 1);
        assert_eq!(part(1 << 120, 1 << 18, 1 << 20), 1 << 118);
        let mut ended = EndedCommands { oldest: Some(1000), ..EndedCommands::new(50) };
        assert_eq!(ended.walk(2000, 100).before, 1500);
        assert_eq!(EndedCommands::new(50).walk(2000, 100).before, 0);
    }
}
