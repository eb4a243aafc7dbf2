//! Commands to what is to be written. Pure.

use serde::Deserialize;
use serde_json::Value as Json;

use super::table::{Function, Table};
use super::value::ValueError;

/// What a command wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Read,
    /// One after the other.
    Write(Vec<Write>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Coils { address: u16, values: Vec<bool> },
    Registers { address: u16, words: Vec<u16> },
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    #[error("there is no command `{0}`; there are `write` and `read`")]
    Unknown(Box<str>),
    #[error("{0}")]
    Payload(String),
    #[error("the table has no `{0}`")]
    NoSuchValue(Box<str>),
    #[error("`{name}` is {function}, which cannot be written")]
    ReadOnly { name: Box<str>, function: &'static str },
    #[error(transparent)]
    Value(#[from] ValueError),
    #[error("writing what the table does not name needs `raw_writes`")]
    RawIsOff,
    #[error("values[{index}]: {given} is no {kind}")]
    Raw { index: usize, given: String, kind: &'static str },
    #[error("{given} values; one request takes 1 to {most}")]
    Count { given: usize, most: usize },
    #[error("address {address} and {count} values lead beyond 65535")]
    Beyond { address: u16, count: usize },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Payload {
    One(Item),
    Several(Vec<Item>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    name: Option<String>,
    value: Option<Json>,
    function: Option<Function>,
    address: Option<u16>,
    values: Option<Vec<Json>>,
}

/// What one request may write (6.11 and 6.12 of the specification).
const COILS_MAX: usize = 1968;
const REGISTERS_MAX: usize = 123;

pub(super) fn wanted(name: &str, payload: &[u8], table: &Table, raw: bool) -> Result<Wanted, CommandError> {
    match name {
        "read" => Ok(Wanted::Read),
        "write" => {
            let payload: Json = serde_json::from_slice(payload)
                .map_err(|error| CommandError::Payload(format!("no JSON: {error}")))?;
            let items = match serde_json::from_value(payload).map_err(|_| shape())? {
                Payload::One(item) => vec![item],
                Payload::Several(items) => items,
            };
            let writes: Result<Vec<_>, _> = items.into_iter().map(|item| write(item, table, raw)).collect();
            writes.map(Wanted::Write)
        }
        other => Err(CommandError::Unknown(other.chars().take(60).collect::<String>().into())),
    }
}

fn shape() -> CommandError {
    let text = "must be {\"name\", \"value\"}, or {\"function\", \"address\", \"values\"}, or a list of such objects";
    CommandError::Payload(text.to_owned())
}

fn write(item: Item, table: &Table, raw: bool) -> Result<Write, CommandError> {
    match item {
        Item { name: Some(name), value: Some(value), function: None, address: None, values: None } => {
            by_name(&name, &value, table)
        }
        Item {
            name: None,
            value: None,
            function: Some(function),
            address: Some(address),
            values: Some(values),
        } => {
            if raw {
                by_address(function, address, &values)
            } else {
                Err(CommandError::RawIsOff)
            }
        }
        _ => Err(shape()),
    }
}

fn by_name(name: &str, given: &Json, table: &Table) -> Result<Write, CommandError> {
    let value = table.named(name).ok_or_else(|| CommandError::NoSuchValue(name.into()))?;
    let address = value.address;
    let words = match value.function {
        Function::Coil | Function::Holding => value.encode(given)?,
        Function::Discrete => {
            return Err(CommandError::ReadOnly { name: name.into(), function: "a discrete input" });
        }
        Function::Input => {
            return Err(CommandError::ReadOnly { name: name.into(), function: "an input register" });
        }
    };
    if words.len() > REGISTERS_MAX {
        return Err(CommandError::Count { given: words.len(), most: REGISTERS_MAX });
    }
    Ok(match value.function {
        Function::Coil => Write::Coils { address, values: words.iter().map(|word| *word != 0).collect() },
        _ => Write::Registers { address, words },
    })
}

fn by_address(function: Function, address: u16, given: &[Json]) -> Result<Write, CommandError> {
    let most = match function {
        Function::Coil => COILS_MAX,
        Function::Holding => REGISTERS_MAX,
        Function::Discrete | Function::Input => {
            return Err(CommandError::ReadOnly {
                name: format!("{} {address}", function.name()).into(),
                function: "of the device's inputs",
            });
        }
    };
    let count = given.len();
    if count == 0 || count > most {
        return Err(CommandError::Count { given: count, most });
    }
    if usize::from(address) + count > 1 << 16 {
        return Err(CommandError::Beyond { address, count });
    }
    let wrong = |(index, given): (usize, &Json), kind| CommandError::Raw {
        index,
        given: given.to_string().chars().take(60).collect(),
        kind,
    };
    let given = given.iter().enumerate();
    Ok(match function {
        Function::Coil => {
            let values = given.map(|at| at.1.as_bool().ok_or_else(|| wrong(at, "boolean")));
            Write::Coils { address, values: values.collect::<Result<_, _>>()? }
        }
        _ => {
            let word = |json: &Json| u16::try_from(json.as_u64()?).ok();
            let words = given.map(|at| word(at.1).ok_or_else(|| wrong(at, "number from 0 to 65535")));
            Write::Registers { address, words: words.collect::<Result<_, _>>()? }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::table::Kind;
    use super::super::table::testing::value;
    use super::*;

    fn table() -> Table {
        let values = vec![
            value("relay", Function::Coil, 7, Kind::Bool),
            value("setpoint", Function::Holding, 100, Kind::F32),
            value("level", Function::Input, 0, Kind::U16),
            value("door", Function::Discrete, 0, Kind::Bool),
        ];
        Table::new(values, 125, 0).unwrap()
    }

    fn written(payload: &str) -> Vec<Write> {
        match wanted("write", payload.as_bytes(), &table(), true) {
            Ok(Wanted::Write(writes)) => writes,
            other => panic!("{payload}: {other:?}"),
        }
    }

    #[test]
    fn writes_by_name_and_by_address() {
        assert_eq!(
            written(r#"[{"name":"relay","value":true},{"name":"setpoint","value":230.1}]"#),
            [
                Write::Coils { address: 7, values: vec![true] },
                Write::Registers { address: 100, words: vec![0x4366, 0x199a] }
            ]
        );
        assert_eq!(
            written(r#"{"function":"holding","address":65535,"values":[9]}"#),
            [Write::Registers { address: 65535, words: vec![9] }]
        );
        assert_eq!(
            written(r#"{"function":"coil","address":0,"values":[true,false]}"#),
            [Write::Coils { address: 0, values: vec![true, false] }]
        );
        assert_eq!(wanted("read", b"", &table(), false), Ok(Wanted::Read));
    }

    #[test]
    fn says_exactly_what_cannot_be_done() {
        let refused = |name: &str, payload: &str, raw| {
            wanted(name, payload.as_bytes(), &table(), raw).unwrap_err().to_string()
        };
        assert_eq!(refused("set", "", true), "there is no command `set`; there are `write` and `read`");
        for (payload, expected) in [
            ("{", "no JSON: EOF while parsing an object at line 1 column 1"),
            (r#"{"name":"heat","value":1}"#, "the table has no `heat`"),
            (r#"{"name":"level","value":1}"#, "`level` is an input register, which cannot be written"),
            (r#"{"name":"door","value":true}"#, "`door` is a discrete input, which cannot be written"),
            (r#"{"name":"relay","value":3}"#, "relay: 3 is no boolean"),
            (
                r#"{"function":"holding","address":1,"values":[1,70000]}"#,
                "values[1]: 70000 is no number from 0 to 65535",
            ),
            (r#"{"function":"coil","address":1,"values":[1]}"#, "values[0]: 1 is no boolean"),
            (
                r#"{"function":"holding","address":65535,"values":[1,2]}"#,
                "address 65535 and 2 values lead beyond 65535",
            ),
            (r#"{"function":"holding","address":1,"values":[]}"#, "0 values; one request takes 1 to 123"),
            (
                r#"{"function":"input","address":1,"values":[1]}"#,
                "`input 1` is of the device's inputs, which cannot be written",
            ),
        ] {
            assert_eq!(refused("write", payload, true), expected);
        }
        for payload in
            ["1", r#"{"name":"relay"}"#, r#"{"name":"relay","value":true,"address":1}"#, r#"{"nam":1}"#]
        {
            assert!(refused("write", payload, true).starts_with("must be {"), "{payload}");
        }
        let raw = refused("write", r#"{"function":"coil","address":0,"values":[true]}"#, false);
        assert_eq!(raw, "writing what the table does not name needs `raw_writes`");
    }
}
