//! Which deliveries the last lines are of.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sandbar_reading::{DeliveryId, Timestamp};

use super::writer::Form;

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

const ID_LEN: usize = 26;

/// What stands before and after the id at the end of a line: `,"id":"01…"}` by [`crate::encode::json`], `,01…` as the
/// last field of a record.
const fn around_id(form: &Form) -> (&'static [u8], &'static [u8]) {
    match form {
        Form::Json => (b",\"id\":\"", b"\"}"),
        Form::Csv(_) => (b",", b""),
    }
}

/// The ids of the last `max` lines, the last one first. A line that is no delivery, or only half of one, has none.
pub(super) fn last_ids(file: &File, form: &Form, max: usize) -> io::Result<Vec<DeliveryId>> {
    let mut ids = Vec::new();
    for_each_line_end(file, |end| {
        ids.extend(id_before(file, form, end)?);
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

fn id_before(file: &File, form: &Form, end: u64) -> io::Result<Option<DeliveryId>> {
    let (before, after) = around_id(form);
    let len = before.len() + ID_LEN + after.len();
    let Some(start) = end.checked_sub(len as u64) else { return Ok(None) };
    let mut bytes = [0; 64];
    let bytes = &mut bytes[..len];
    file.read_exact_at(bytes, start)?;
    Ok(id_within(bytes, form))
}

/// Of the end of a line.
fn id_within(line_end: &[u8], form: &Form) -> Option<DeliveryId> {
    let (before, after) = around_id(form);
    let id = line_end.strip_prefix(before).and_then(|rest| rest.strip_suffix(after))?;
    std::str::from_utf8(id).ok()?.parse().ok()
}

/// The time of the first line, which is how old the file is.
pub(super) fn first_time(file: &File, form: &Form) -> io::Result<Option<Timestamp>> {
    const BLOCK: usize = 64 << 10;
    let mut block = vec![0; BLOCK];
    let read = file.read_at(&mut block, 0)?;
    let block = &block[..read];
    match form {
        Form::Json => {
            const START: &[u8] = b"{\"time\":\"";
            let time = block.strip_prefix(START).and_then(|rest| rest.split(|byte| *byte == b'"').next());
            Ok(time.and_then(|time| std::str::from_utf8(time).ok()).and_then(|time| time.parse().ok()))
        }
        // The time may be no column; the id was given out then.
        Form::Csv(_) => {
            let (before, after) = around_id(form);
            let len = before.len() + ID_LEN + after.len();
            let ends = block.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(end, _)| end);
            let mut ids = ends.filter_map(|end| id_within(&block[end.checked_sub(len)?..end], form));
            Ok(ids.next().map(DeliveryId::time))
        }
    }
}

/// Whether the file ends within a line: a crash cut it off.
pub(super) fn is_torn(file: &File) -> io::Result<bool> {
    let Some(last) = file.metadata()?.len().checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

/// What is to become of a file of records before it is appended to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Records {
    Whole,
    /// It ends within a record, where a line break says nothing: it may be of a quoted field.
    CutTo(u64),
    /// It has other columns, or is something else.
    Foreign,
}

pub(super) fn records(file: &File, form: &Form, header: &[u8]) -> io::Result<Records> {
    let len = file.metadata()?.len();
    let mut start = vec![0; header.len()];
    let read = file.read_at(&mut start, 0)?;
    if start[..read] != header[..read] {
        return Ok(Records::Foreign);
    }
    if read < header.len() {
        return Ok(if len == 0 { Records::Whole } else { Records::CutTo(0) });
    }
    let mut whole = header.len() as u64;
    for_each_line_end(file, |end| {
        let is_end = end >= whole && id_before(file, form, end)?.is_some();
        if is_end {
            whole = end + 1;
        }
        Ok(!is_end && end >= header.len() as u64)
    })?;
    Ok(if whole == len { Records::Whole } else { Records::CutTo(whole) })
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
        let ids = last_ids(&file(&lines(0..2000)), &Form::Json, 1500).unwrap();
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
            assert_eq!(last_ids(&file(&content), &Form::Json, 10).unwrap(), [], "{cut}");
        }
        assert_eq!(last_ids(&file(&whole), &Form::Json, 10).unwrap(), [delivery(1).id]);
    }

    #[test]
    fn foreign_lines_have_no_id() {
        assert_eq!(last_ids(&file(b"\n\nhello\n{\"id\":\"x\"}\n"), &Form::Json, 10).unwrap(), []);
        assert_eq!(first_time(&file(b"hello\n"), &Form::Json).unwrap(), None);
        assert_eq!(first_time(&file(&lines(5..7)), &Form::Json).unwrap(), Some(delivery(5).time));
    }

    /// Also within a quoted field that has line breaks.
    #[test]
    fn a_record_that_was_cut_off_is_cut_away_wherever_it_was_cut() {
        let form = Form::Csv(super::super::csv::Columns::new(&[column("time"), column("payload")]).unwrap());
        let Form::Csv(columns) = &form else { unreachable!() };
        let mut second = delivery(2);
        second.message.payload = "a \"quoted\"\nline,\n".into();
        let mut whole = columns.header().to_vec();
        let header = whole.len();
        whole.extend(columns.line(&delivery(1)));
        let first = whole.len();
        whole.extend(columns.line(&second));
        let found = |len: usize| records(&file(&whole[..len]), &form, columns.header()).unwrap();
        for len in 0..=whole.len() {
            let expected = match len {
                0 => Records::Whole,
                len if len == header || len == first || len == whole.len() => Records::Whole,
                len if len < header => Records::CutTo(0),
                len if len < first => Records::CutTo(header as u64),
                _ => Records::CutTo(first as u64),
            };
            assert_eq!(found(len), expected, "{len}");
        }
        assert_eq!(last_ids(&file(&whole), &form, 10).unwrap(), [delivery(2).id, delivery(1).id]);
        assert_eq!(first_time(&file(&whole), &form).unwrap(), Some(delivery(1).id.time()));
        assert_eq!(records(&file(b"time,other,id\n"), &form, columns.header()).unwrap(), Records::Foreign);
    }

    fn column(from: &str) -> super::super::csv::ColumnConfig {
        sandbar_reading::settings(from.into()).unwrap()
    }

    #[test]
    fn the_last_ten_thousand_are_remembered() {
        let mut seen = Seen::default();
        let id = |number: usize| DeliveryId::from_u128(number as u128);
        (0..REMEMBERED + 5).for_each(|number| seen.insert(id(number)));
        assert!(!seen.contains(id(4)) && seen.contains(id(5)) && seen.contains(id(REMEMBERED + 4)));
    }
}
