//! What is to be read of a unit, and in which requests. Pure.

use sandbar_reading::{ByteOrder, ConfigError};
use schemars::JsonSchema;
use serde::Deserialize;

/// Which of a device's four tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Function {
    Coil,
    Discrete,
    Input,
    Holding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
    Bool,
    String,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Value {
    pub(super) name: Box<str>,
    pub(super) function: Function,
    pub(super) address: u16,
    pub(super) kind: Kind,
    pub(super) registers: u16,
    pub(super) word_order: ByteOrder,
    pub(super) byte_order: ByteOrder,
    pub(super) bit: Option<u8>,
    pub(super) scale: f64,
    pub(super) offset: f64,
    pub(super) unit: Option<Box<str>>,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) function: Function,
    pub(super) address: u16,
    pub(super) count: u16,
}

pub(super) struct Table {
    /// As configured.
    pub(super) values: Vec<Value>,
    pub(super) blocks: Vec<Block>,
    /// By value: which block has it.
    pub(super) of_block: Vec<usize>,
}

impl Function {
    pub(super) fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Coil => "coil",
            Self::Discrete => "discrete",
            Self::Input => "input",
            Self::Holding => "holding",
        }
    }
}

impl Kind {
    /// Of a string, the least.
    pub(super) fn registers(self) -> u16 {
        match self {
            Self::U16 | Self::I16 | Self::Bool | Self::String => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
            Self::U64 | Self::I64 | Self::F64 => 4,
        }
    }

    pub(super) fn is_number(self) -> bool {
        !matches!(self, Self::Bool | Self::String)
    }
}

impl Value {
    /// One after its last register or coil.
    fn end(&self) -> u32 {
        u32::from(self.address) + u32::from(self.registers)
    }
}

impl Block {
    fn end(&self) -> u32 {
        u32::from(self.address) + u32::from(self.count)
    }

    /// `holding 100 to 103`.
    pub(super) fn name(&self) -> String {
        let (function, first, last) = (self.function.name(), self.address, self.end() - 1);
        if u32::from(first) == last {
            format!("{function} {first}")
        } else {
            format!("{function} {first} to {last}")
        }
    }
}

impl Table {
    /// `span` is the most registers of a request, `gap` the most of them in a row that nobody asked for.
    pub(super) fn new(values: Vec<Value>, span: u16, gap: u16) -> Result<Self, ConfigError> {
        if values.is_empty() {
            return Err(ConfigError::at("values", "there is none"));
        }
        for (index, value) in values.iter().enumerate() {
            let at =
                |setting, problem: String| ConfigError::at(format!("values[{index}].{setting}"), problem);
            if values[..index].iter().any(|other| other.name == value.name) {
                return Err(at("name", format!("`{}` is there twice", value.name)));
            }
            if value.registers > span {
                return Err(at("address", format!("{} registers are more than `span_max`", value.registers)));
            }
        }
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by_key(|index| (values[*index].function, values[*index].address));
        let mut blocks: Vec<Block> = Vec::new();
        let mut of_block = vec![0; values.len()];
        for index in order {
            let value = &values[index];
            let joined = blocks.last_mut().filter(|block| {
                block.function == value.function
                    && u32::from(value.address) <= block.end() + u32::from(gap)
                    && value.end().max(block.end()) - u32::from(block.address) <= u32::from(span)
            });
            match joined {
                Some(block) => {
                    let count = value.end().max(block.end()) - u32::from(block.address);
                    block.count = u16::try_from(count).expect("a span is below 126");
                }
                None => blocks.push(Block {
                    function: value.function,
                    address: value.address,
                    count: value.registers,
                }),
            }
            of_block[index] = blocks.len() - 1;
        }
        Ok(Self { values, blocks, of_block })
    }

    pub(super) fn named(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|value| *value.name == *name)
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    pub(crate) fn value(name: &str, function: Function, address: u16, kind: Kind) -> Value {
        Value {
            name: name.into(),
            function,
            address,
            kind,
            registers: kind.registers(),
            word_order: ByteOrder::Big,
            byte_order: ByteOrder::Big,
            bit: None,
            scale: 1.0,
            offset: 0.0,
            unit: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::value;
    use super::*;

    fn blocks(values: &[(Function, u16, Kind)], span: u16, gap: u16) -> Vec<String> {
        let values = values.iter().enumerate();
        let values =
            values.map(|(n, (function, address, kind))| value(&n.to_string(), *function, *address, *kind));
        let table = Table::new(values.collect(), span, gap).unwrap();
        for (value, block) in table.values.iter().zip(&table.of_block) {
            let block = table.blocks[*block];
            assert!(
                block.function == value.function
                    && block.address <= value.address
                    && value.end() <= block.end()
            );
        }
        table.blocks.iter().map(Block::name).collect()
    }

    #[test]
    fn what_lies_side_by_side_is_read_at_once() {
        use Function::{Coil, Holding, Input};
        let values = [
            (Holding, 4, Kind::F32),
            (Coil, 0, Kind::Bool),
            (Holding, 0, Kind::U64),
            (Holding, 0, Kind::U16),
            (Input, 6, Kind::U16),
            (Coil, 1, Kind::Bool),
            (Holding, 8, Kind::U16),
        ];
        assert_eq!(blocks(&values, 125, 0), ["coil 0 to 1", "input 6", "holding 0 to 5", "holding 8"]);
        assert_eq!(blocks(&values, 125, 2), ["coil 0 to 1", "input 6", "holding 0 to 8"]);
        assert_eq!(
            blocks(&values, 4, 2),
            ["coil 0 to 1", "input 6", "holding 0 to 3", "holding 4 to 5", "holding 8"]
        );
        assert_eq!(blocks(&[(Holding, u16::MAX, Kind::U16)], 125, 9), ["holding 65535"]);
    }
}
