//! What a unit answered to a reading's payload, and to its state. Pure.

use serde_json::{Map, Value as Json, json};

#[cfg(any(test, feature = "contract-test"))]
use super::table::Function;
use super::table::Table;

/// The registers of a block, or its coils as 0 and 1; or why the unit did not give them.
pub(super) type Answer = Result<Vec<u16>, String>;

/// The reading's payload: a value, or the error of it, by name. `answers` are in the order of the table's blocks.
pub(super) fn payload(table: &Table, answers: &[Answer]) -> Vec<u8> {
    let mut object = Map::with_capacity(table.values.len());
    for (value, block) in table.values.iter().zip(&table.of_block) {
        let decoded = match (&answers[*block], table.blocks[*block]) {
            (Ok(words), block) => {
                let from = usize::from(value.address - block.address);
                let own = words.get(from..from + usize::from(value.registers));
                match own {
                    Some(own) => value.decode(own).map_err(|error| error.to_string()),
                    None => Err("the unit answered with too little".to_owned()),
                }
            }
            (Err(cause), _) => Err(cause.clone()),
        };
        let shown = match (decoded, &value.unit) {
            (Ok(decoded), Some(unit)) => json!({ "value": decoded, "unit": &**unit }),
            (Ok(decoded), None) => json!({ "value": decoded }),
            (Err(error), _) => json!({ "error": error }),
        };
        object.insert(value.name.as_ref().to_owned(), shown);
    }
    serde_json::to_vec(&Json::Object(object)).expect("JSON is written to memory")
}

/// Bytes as a device might send them, for those who throw garbage at it: half is taken for each of two blocks.
#[cfg(any(test, feature = "contract-test"))]
pub(crate) fn decode_bytes(bytes: &[u8]) -> bool {
    use sandbar_reading::{ByteOrder, settings};
    let settings: super::Config = settings(json!({
        "connect": "a:502",
        "units": [{ "unit": 1, "values": [
            { "name": "a", "function": "holding", "address": 0, "type": "f32", "word_order": "little" },
            { "name": "b", "function": "holding", "address": 2, "type": "string", "registers": 4 },
            { "name": "c", "function": "holding", "address": 6, "type": "i64", "scale": 0.1, "byte_order": "little" },
            { "name": "d", "function": "coil", "address": 0 },
        ] }],
    }))
    .expect("settings that can be read");
    let settings = settings.settings().expect("settings that work");
    let table = &settings.units[0].table;
    let order = if bytes.len().is_multiple_of(2) { ByteOrder::Big } else { ByteOrder::Little };
    let words = bytes.chunks(2).map(|pair| match (order, pair) {
        (ByteOrder::Big, [a, b]) => u16::from_be_bytes([*a, *b]),
        (_, [a, rest @ ..]) => u16::from(*a) | u16::from(rest.first().copied().unwrap_or_default()) << 8,
        (_, []) => 0,
    });
    let words: Vec<u16> = words.collect();
    let answers: Vec<Answer> = table
        .blocks
        .iter()
        .map(|block| match block.function {
            Function::Holding => Ok(words.clone()),
            _ => Ok(words.iter().map(|word| word & 1).collect()),
        })
        .collect();
    let payload: Json = serde_json::from_slice(&payload(table, &answers)).expect("it is JSON");
    payload.as_object().is_some_and(|values| values.values().all(|value| value.get("value").is_some()))
}

#[cfg(test)]
mod tests {
    use super::super::table::Kind;
    use super::super::table::Value;
    use super::super::table::testing::value;
    use super::*;

    #[test]
    fn a_block_that_is_refused_spoils_its_own_values_only() {
        let voltage =
            Value { unit: Some("V".into()), scale: 0.1, ..value("voltage", Function::Input, 10, Kind::U16) };
        let values = vec![
            voltage,
            value("count", Function::Input, 11, Kind::U32),
            value("relay", Function::Coil, 3, Kind::Bool),
            value("mode", Function::Holding, 0, Kind::U16),
        ];
        let table = Table::new(values, 125, 0).unwrap();
        let shown = |answers: &[Answer]| String::from_utf8(payload(&table, answers)).unwrap();
        let refused = Err("illegal data address (exception 2)".to_owned());
        assert_eq!(
            shown(&[Ok(vec![1]), Ok(vec![2301, 1, 2]), refused]),
            r#"{"count":{"value":65538},"mode":{"error":"illegal data address (exception 2)"},"relay":{"value":true},"voltage":{"unit":"V","value":230.1}}"#
        );
        assert!(shown(&[Ok(vec![]), Ok(vec![2301]), Ok(vec![0])]).contains("too little"));
    }
}
