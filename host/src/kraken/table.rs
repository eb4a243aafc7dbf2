//! TOML as people would write it: one table after the other, with comments.

use std::fmt::Write;

use toml::Value;

#[derive(Default)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn comment(&mut self, text: &str) {
        self.line(&format!("# {text}"));
    }

    /// The settings that follow belong to it.
    pub(super) fn table(&mut self, name: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        self.line(&format!("{gap}[{name}]"));
    }

    pub(super) fn set(&mut self, setting: &str, value: impl Into<Value>) {
        let value: Value = value.into();
        self.line(&format!("{setting} = {value}"));
    }

    /// Nothing, if there is no value.
    pub(super) fn set_if<T: Into<Value>>(&mut self, setting: &str, value: Option<T>) {
        if let Some(value) = value {
            self.set(setting, value);
        }
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, line: &str) {
        writeln!(self.0, "{line}").expect("written to memory");
    }
}
