//! What the commands print: lines, JSON, and rows in aligned columns.

use std::fmt::Display;
use std::io::{self, Write};

use serde_json::Value;

/// One column of a listing: its title, and how an item's cell is made.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    pub title: &'static str,
    pub cell: fn(&Value) -> String,
}

/// A line on standard output. A reader that went away (`| head`) is an error of kind `BrokenPipe`.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Pretty JSON on standard output.
pub(crate) fn json(value: &Value) -> io::Result<()> {
    line(format_args!("{value:#}"))
}

/// What the API answered to a listing: as it came, or one row an item.
pub(crate) fn listing(answer: &Value, as_json: bool, nothing: &str, columns: &[Column]) -> io::Result<()> {
    if as_json {
        return json(answer);
    }
    let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return line(nothing);
    }
    let header = columns.iter().map(|column| column.title.to_owned()).collect();
    let row = |item| columns.iter().map(|column| (column.cell)(item)).collect();
    line(aligned(std::iter::once(header).chain(items.iter().map(row)).collect()))?;
    match answer["next"].as_str() {
        Some(cursor) => line(format_args!("… there is more: --cursor {cursor}")),
        None => Ok(()),
    }
}

/// Rows whose cells begin in the same columns. The last cell of a row may be as long as it likes.
pub(crate) fn aligned(rows: Vec<Vec<String>>) -> String {
    const GAP: usize = 2;
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        for (index, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(index) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let lines: Vec<String> = rows
        .into_iter()
        .map(|row| {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}", width = width + GAP));
            }
            line.trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

/// The value at a JSON pointer as a cell: `-` when there is none, lists with commas between.
pub(crate) fn at(item: &Value, pointer: &str) -> String {
    item.pointer(pointer).map_or_else(|| "-".to_owned(), cell)
}

/// Any value as a cell. What a terminal could take for a command is escaped: topics and payloads come
/// from anyone.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => printable(text),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The payload of a reading, a delivery or an output as one line of at most `max` characters.
pub(crate) fn payload(item: &Value, max: usize) -> String {
    let text = match (&item["payload_json"], &item["payload"], &item["payload_base64"]) {
        (Value::Null, Value::String(text), _) => text.clone(),
        (Value::Null, _, Value::String(base64)) => format!("base64:{base64}"),
        (Value::Null, ..) => return "-".to_owned(),
        (json, ..) => json.to_string(),
    };
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", printable(&text[..end])),
        None => printable(&text),
    }
}

/// Bytes as a person reads them: `512 B`, `63.1 KiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_begin_in_the_same_columns() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let rows = vec![
            row(&["NAME", "TOPIC", "SINKS"]),
            row(&["celsius", "sensors/#", "file,log"]),
            row(&["küche", "-", "-"]),
        ];
        expect![[r"
            NAME     TOPIC      SINKS
            celsius  sensors/#  file,log
            küche    -          -"]]
        .assert_eq(&aligned(rows));
    }

    #[test]
    fn a_payload_cannot_command_the_terminal() {
        assert_eq!(payload(&json!({ "payload": "\x1b[2Jhi\n" }), 80), "\\u{1b}[2Jhi\\n");
        assert_eq!(cell(&json!("a\x07b")), "a\\u{7}b");
    }

    #[test]
    fn payloads_are_shown_as_they_are_known() {
        assert_eq!(payload(&json!({ "payload_json": { "a": 1 } }), 80), r#"{"a":1}"#);
        assert_eq!(payload(&json!({ "payload_base64": "/9g=" }), 80), "base64:/9g=");
        assert_eq!(payload(&json!({ "payload": "äöü" }), 2), "äö…");
        assert_eq!(payload(&json!({}), 80), "-");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(64_614), "63.1 KiB");
        assert_eq!(bytes(18 << 20), "18.0 MiB");
    }
}
