//! Which deliveries the last lines are of.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sandbar_reading::{DeliveryId, Timestamp};

/// So many lines are remembered: more than any outbox offers between a crash and the next success.
pub(super) const REMEMBERED: usize = 10_000;

/// The ids of the last lines written.
#[derive(Debug, Default)]
pub(super) struct Seen {
    order: VecDeque<DeliveryId>,
    ids: HashSet<DeliveryId>,
}

impl Seen {
    pub(super) fn contains(&self, id: DeliveryId) -> bool {
        self.ids.contains(&id)
    }

    pub(super) fn insert(&mut self, id: DeliveryId) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

/// How a line ends that [`crate::encode::json`] made: `,"id":"01…"}`.
const ID_START: &[u8] = b",\"id\":\"";
const ID_END: &[u8] = b"\"}";
const ID_LEN: usize = 26;
const LINE_END: usize = ID_START.len() + ID_LEN + ID_END.len();

/// The ids of the last `max` lines, the last one first. A line that is no delivery, or only half of one, has none.
pub(super) fn last_ids(file: &File, max: usize) -> io::Result<Vec<DeliveryId>> {
    let mut ids = Vec::new();
    for_each_line_end(file, |end| {
        ids.extend(id_before(file, end)?);
        Ok(ids.len() < max)
    })?;
    Ok(ids)
}

/// Calls `at` with the offset of each newline, from the last one back, while it returns true.
fn for_each_line_end(file: &File, mut at: impl FnMut(u64) -> io::Result<bool>) -> io::Result<()> {
    const BLOCK: u64 = 64 << 10;
    let mut block = vec![0; BLOCK as usize];
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let read = &mut block[..(end - start) as usize];
        file.read_exact_at(read, start)?;
        for (index, _) in read.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            if !at(start + index as u64)? {
                return Ok(());
            }
        }
        end = start;
    }
    Ok(())
}

fn id_before(file: &File, end: u64) -> io::Result<Option<DeliveryId>> {
    let Some(start) = end.checked_sub(LINE_END as u64) else { return Ok(None) };
    let mut bytes = [0; LINE_END];
    file.read_exact_at(&mut bytes, start)?;
    let id = bytes.strip_prefix(ID_START).and_then(|rest| rest.strip_suffix(ID_END));
    Ok(id.and_then(|id| std::str::from_utf8(id).ok()).and_then(|id| id.parse().ok()))
}

/// The time of the first line, which is how old the file is.
pub(super) fn first_time(file: &File) -> io::Result<Option<Timestamp>> {
    const START: &[u8] = b"{\"time\":\"";
    let mut bytes = [0; 64];
    let read = file.read_at(&mut bytes, 0)?;
    let time = bytes[..read].strip_prefix(START).and_then(|rest| rest.split(|byte| *byte == b'"').next());
    Ok(time.and_then(|time| std::str::from_utf8(time).ok()).and_then(|time| time.parse().ok()))
}

/// Whether the file ends within a line: a crash cut it off.
pub(super) fn is_torn(file: &File) -> io::Result<bool> {
    let Some(last) = file.metadata()?.len().checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::contract::{deliveries, delivery};
    use crate::encode;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn lines(numbers: std::ops::Range<u64>) -> Vec<u8> {
        let mut content = Vec::new();
        for delivery in deliveries(numbers) {
            encode::json(&delivery, &mut content);
            content.push(b'\n');
        }
        content
    }

    #[test]
    fn ids_are_found_across_blocks() {
        let ids = last_ids(&file(&lines(0..2000)), 1500).unwrap();
        let expected: Vec<_> = deliveries(500..2000).iter().rev().map(|delivery| delivery.id).collect();
        assert_eq!(ids, expected);
    }

    #[test]
    fn a_line_that_was_cut_off_has_no_id_wherever_it_was_cut() {
        let whole = lines(1..2);
        for cut in 0..whole.len() - 1 {
            let mut content = whole[..cut].to_vec();
            let torn = is_torn(&file(&content)).unwrap();
            assert_eq!(torn, cut > 0);
            content.push(b'\n');
            assert_eq!(last_ids(&file(&content), 10).unwrap(), [], "{cut}");
        }
        assert_eq!(last_ids(&file(&whole), 10).unwrap(), [delivery(1).id]);
    }

    #[test]
    fn foreign_lines_have_no_id() {
        assert_eq!(last_ids(&file(b"\n\nhello\n{\"id\":\"x\"}\n"), 10).unwrap(), []);
        assert_eq!(first_time(&file(b"hello\n")).unwrap(), None);
        assert_eq!(first_time(&file(&lines(5..7))).unwrap(), Some(delivery(5).time));
    }

    #[test]
    fn the_last_ten_thousand_are_remembered() {
        let mut seen = Seen::default();
        let id = |number: usize| DeliveryId::from_u128(number as u128);
        (0..REMEMBERED + 5).for_each(|number| seen.insert(id(number)));
        assert!(!seen.contains(id(4)) && seen.contains(id(5)) && seen.contains(id(REMEMBERED + 4)));
    }
}
