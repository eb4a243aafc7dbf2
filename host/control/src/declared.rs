//! What `sandbar.toml` declares.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sandbar_reading::{ConfigError, Name, Secret, settings};
use sandbar_runtime::script;
use sandbar_telemetry::TelemetryTable;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::lines::Lines;
use crate::problem::ConfigProblem;
use crate::tables::{
    ApiTable, CompatTable, DevicesTable, HostTable, IngressTable, ModuleTable, RouteTable, SinkTable,
    TrustTable,
};
use crate::trust::Trust;
use crate::wanted::Revealed;
use crate::what::What;

/// A configuration file, read and checked as far as that needs no running host.
#[derive(Clone, Debug)]
pub struct Declared {
    file: PathBuf,
    lines: Lines,
    host: HostTable,
    api: ApiTable,
    telemetry: TelemetryTable,
    devices: DevicesTable,
    compat: CompatTable,
    /// The token that was given beside the file.
    given_token: Option<Secret>,
    pub(crate) modules: BTreeMap<Name, ModuleFile>,
    pub(crate) ingresses: BTreeMap<Name, IngressTable>,
    pub(crate) sinks: BTreeMap<Name, SinkTable>,
    pub(crate) routes: BTreeMap<Name, RouteTable>,
    pub(crate) secrets: BTreeMap<String, Revealed>,
    pub(crate) trust: Trust,
}

/// Where a declared module's component is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModuleFile {
    At(PathBuf),
    /// Built into the binary.
    Embedded(Bytes),
}

impl ModuleFile {
    /// Of the component, beside it.
    pub(crate) fn signature(&self) -> Option<Vec<u8>> {
        let Self::At(path) = self else { return None };
        let mut beside = path.clone().into_os_string();
        beside.push(".sig");
        std::fs::read(beside).ok()
    }

    pub(crate) fn read(&self) -> io::Result<Bytes> {
        match self {
            Self::At(path) if path.extension().is_some_and(|extension| extension == "js") => {
                std::fs::read_to_string(path).map(|text| script::javascript(&text))
            }
            Self::At(path) => std::fs::read(path).map(Bytes::from),
            Self::Embedded(wasm) => Ok(wasm.clone()),
        }
    }
}

/// `sandbar.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigFile {
    pub host: HostTable,
    pub api: ApiTable,
    pub devices: DevicesTable,
    pub compat: CompatTable,
    /// Where readings come from, by name.
    pub ingress: BTreeMap<String, IngressTable>,
    /// Where messages go, by name.
    pub sink: BTreeMap<String, SinkTable>,
    /// Components, by name.
    pub module: BTreeMap<String, ModuleTable>,
    /// Which readings are handled how, by name.
    pub route: BTreeMap<String, RouteTable>,
    /// What handlers may be given by name, if their route's permissions say so.
    pub secret: BTreeMap<String, Secret>,
    pub trust: TrustTable,
    pub telemetry: TelemetryTable,
}

/// JSON schema of `sandbar.toml`, without what is a driver's or a sink's own.
pub fn config_schema() -> Value {
    schemars::schema_for!(ConfigFile).to_value()
}

impl Declared {
    /// Reads the file at `file`.
    pub fn load(file: &Path) -> Result<Self, ConfigProblem> {
        let text = std::fs::read_to_string(file).map_err(|error| ConfigProblem {
            file: file.to_owned(),
            line: 1,
            setting: String::new(),
            problem: format!("cannot be read: {error}"),
        })?;
        Self::parse(&text, file)
    }

    /// `file`: what problems name, and what paths are relative to.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigProblem> {
        let problem =
            |line, setting: String, problem| ConfigProblem { file: file.to_owned(), line, setting, problem };
        let (value, lines) =
            Lines::read(text).map_err(|not| problem(not.line, String::new(), not.problem))?;
        Self::from_value(value, file, lines.clone())
            .map_err(|error| problem(lines.line(&error.setting), error.setting, error.problem))
    }

    fn from_value(value: Value, file: &Path, lines: Lines) -> Result<Self, ConfigError> {
        let written: ConfigFile = settings(value)?;
        written.host.check().map_err(|error| error.within("host"))?;
        written.devices.check().map_err(|error| error.within("devices"))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let declared = Self {
            file: file.to_owned(),
            lines,
            host: HostTable { data_dir: folder.join(&written.host.data_dir), ..written.host },
            api: written.api,
            telemetry: written.telemetry,
            devices: written.devices,
            compat: written.compat,
            given_token: None,
            modules: named(What::Module, written.module)?
                .into_iter()
                .map(|(name, table)| (name, ModuleFile::At(folder.join(table.file))))
                .collect(),
            ingresses: named(What::Ingress, written.ingress)?,
            sinks: named(What::Sink, written.sink)?,
            routes: named(What::Route, written.route)?,
            secrets: revealed(&written.secret)?,
            trust: Trust::read(&written.trust.keys)
                .map_err(|(index, problem)| ConfigError::at(format!("trust.keys[{index}]"), problem))?,
        };
        declared.telemetry.check().map_err(|error| error.within("telemetry"))?;
        declared.check()?;
        Ok(declared)
    }

    /// Some names are the host's own.
    pub(crate) fn may_be_an_ingress(&self, name: &str) -> Result<(), ConfigError> {
        let what = match name {
            crate::API_INGRESS => "of the host's own API",
            crate::DEVICES_INGRESS => "that tells of devices",
            crate::CLOUD_CONNECTOR_INGRESS if self.compat.cloud_connector.is_some() => {
                "of compat.cloud_connector"
            }
            _ => return Ok(()),
        };
        Err(ConfigError::at("", format!("`{name}` is the ingress {what}: choose another name")))
    }

    fn check(&self) -> Result<(), ConfigError> {
        for name in self.ingresses.keys() {
            self.may_be_an_ingress(name.as_str())
                .map_err(|error| error.within(&What::Ingress.table(name)))?;
        }
        for (name, sink) in &self.sinks {
            sink.offering.check().map_err(|error| error.within(&What::Sink.table(name)))?;
        }
        for (name, route) in &self.routes {
            route.check().map_err(|error| error.within(&What::Route.table(name)))?;
        }
        Ok(())
    }

    /// A configuration without a file: the defaults, with everything under `data_dir`.
    pub fn nothing(data_dir: PathBuf) -> Self {
        Self {
            file: PathBuf::new(),
            lines: Lines::default(),
            host: HostTable { data_dir, ..HostTable::default() },
            api: ApiTable::default(),
            telemetry: TelemetryTable::default(),
            devices: DevicesTable::default(),
            compat: CompatTable::default(),
            given_token: None,
            modules: BTreeMap::new(),
            ingresses: BTreeMap::new(),
            sinks: BTreeMap::new(),
            routes: BTreeMap::new(),
            secrets: BTreeMap::new(),
            trust: Trust::default(),
        }
    }

    /// Adds a module that is built into the binary.
    #[must_use]
    pub fn with_module(mut self, name: Name, component: Bytes) -> Self {
        self.modules.insert(name, ModuleFile::Embedded(component));
        self
    }

    /// The API's token, whatever the file says of it.
    #[must_use]
    pub fn with_token(mut self, token: Secret) -> Self {
        self.api.token = Some(token.clone());
        self.given_token = Some(token);
        self
    }

    /// With what was given to `before` beside its file.
    pub(crate) fn given_as(self, before: &Self) -> Self {
        match &before.given_token {
            Some(token) => self.with_token(token.clone()),
            None => self,
        }
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// With `data_dir` relative to the working directory, not to the file.
    pub fn host(&self) -> &HostTable {
        &self.host
    }

    pub fn api(&self) -> &ApiTable {
        &self.api
    }

    pub(crate) fn telemetry(&self) -> &TelemetryTable {
        &self.telemetry
    }

    pub fn devices(&self) -> &DevicesTable {
        &self.devices
    }

    pub fn compat(&self) -> &CompatTable {
        &self.compat
    }

    /// The files whose change may be a reason to reload: the file itself and its modules'.
    pub fn files(&self) -> Vec<PathBuf> {
        let modules = self.modules.values().filter_map(|module| match module {
            ModuleFile::At(path) => Some(path.clone()),
            ModuleFile::Embedded(_) => None,
        });
        std::iter::once(self.file.clone())
            .filter(|file| !file.as_os_str().is_empty())
            .chain(modules)
            .collect()
    }

    /// Where in the file an error is that was found later. `error.setting` is the whole path.
    pub(crate) fn problem(&self, error: ConfigError) -> ConfigProblem {
        ConfigProblem {
            file: self.file.clone(),
            line: self.lines.line(&error.setting),
            setting: error.setting,
            problem: error.problem,
        }
    }
}

/// What cannot be had is found out when the file is read, not when a handler asks.
fn revealed(secrets: &BTreeMap<String, Secret>) -> Result<BTreeMap<String, Revealed>, ConfigError> {
    let reveal = |(name, secret): (&String, &Secret)| {
        let setting = format!("secret.{name}");
        if let Err(error) = name.parse::<Name>() {
            return Err(ConfigError::at(setting, error.to_string()));
        }
        let text = secret.resolve(&setting, |path| std::fs::read_to_string(path))?;
        Ok((name.clone(), Revealed::new(text)))
    };
    secrets.iter().map(reveal).collect()
}

fn named<T>(what: What, tables: BTreeMap<String, T>) -> Result<BTreeMap<Name, T>, ConfigError> {
    let name = |(text, table): (String, T)| match text.parse::<Name>() {
        Ok(name) => Ok((name, table)),
        Err(error) => Err(ConfigError::at(what.table(&text), error.to_string())),
    };
    tables.into_iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, expected: &Expect) {
        let problem = Declared::parse(text, Path::new("/etc/sandbar.toml")).unwrap_err();
        expected.assert_eq(&problem.to_string());
    }

    #[test]
    fn every_problem_names_its_line_and_setting() {
        check(
            "[host]\ndepth_max = 8\nreading_max = 1\n",
            &expect![
                "/etc/sandbar.toml:3: host.reading_max: unknown field `reading_max`, expected one of `data_dir`, `reading_max_bytes`, `inline_max_bytes`, `journal_hours`, `journal_mib`, `trace_mib`, `dead_letters_mib`, `depth_max`, `store_cache_mib`"
            ],
        );
        check(
            "[host]\n\njournal_mib = 0\n",
            &expect!["/etc/sandbar.toml:3: host.journal_mib: must be above 0"],
        );
        check(
            "[api]\nlisten = \"7420\"\n",
            &expect!["/etc/sandbar.toml:2: api.listen: invalid socket address syntax"],
        );
        check(
            "[ingress.Web]\ndriver = \"webhook\"\n",
            &expect![
                "/etc/sandbar.toml:1: ingress.Web: `Web` is not a name: 1 to 63 characters a-z, 0-9, `-` and `_`, the first a letter or digit"
            ],
        );
        check(
            "[ingress.api]\ndriver = \"webhook\"\n",
            &expect![
                "/etc/sandbar.toml:1: ingress.api: `api` is the ingress of the host's own API: choose another name"
            ],
        );
        check(
            "[ingress.web]\nlisten = \"127.0.0.1:0\"\n",
            &expect!["/etc/sandbar.toml:1: ingress.web: missing field `driver`"],
        );
        check(
            "[sink.out]\nkind = \"log\"\n[sink.out.offering]\nbatch_max = 0\n",
            &expect!["/etc/sandbar.toml:4: sink.out.offering.batch_max: must be above 0"],
        );
        check(
            "[route.a]\ntopic = [\"x\", \"a/#/b\"]\n",
            &expect![
                "/etc/sandbar.toml:2: route.a.topic[1]: `#` must be the whole last level: `a/#`, not `a/#/b` (level 2)"
            ],
        );
        check(
            "[route.a]\nkey = \"devices\"\n",
            &expect![
                "/etc/sandbar.toml:2: route.a.key: `devices` is not a key: device, topic, none, attribute:NAME or pointer:/path/in/json"
            ],
        );
        check(
            "[route.a]\nattempts = { max = 0 }\n",
            &expect![
                "/etc/sandbar.toml:2: route.a.attempts.max: invalid value: integer `0`, expected a nonzero u32"
            ],
        );
        check(
            "[route.a]\nconcurrency = 0\n",
            &expect!["/etc/sandbar.toml:2: route.a.concurrency: must be above 0"],
        );
        check(
            "[route.a]\nconfig = { a = 1 }\n",
            &expect!["/etc/sandbar.toml:2: route.a.config: is for a module, and this route has none"],
        );
        check(
            "[route.a]\nmodule = \"m\"\nconfig = { a = [1] }\n",
            &expect![
                "/etc/sandbar.toml:3: route.a.config.a: invalid type: sequence, expected a text, a number or a boolean"
            ],
        );
        check(
            "[route.a]\nsinks = [\"A\"]\n",
            &expect![
                "/etc/sandbar.toml:2: route.a.sinks[0]: `A` is not a name: 1 to 63 characters a-z, 0-9, `-` and `_`, the first a letter or digit"
            ],
        );
        check(
            "[route.a]\ncontent_type = \"json\"\n",
            &expect![
                "/etc/sandbar.toml:2: route.a.content_type: `json` is not a content type or a range of them, such as application/json or image/*"
            ],
        );
        check("[route.a]\ntopic = \"a\"\ntopic = \"b\"\n", &expect!["/etc/sandbar.toml:3: duplicate key"]);
        check("[route.a\n", &expect!["/etc/sandbar.toml:1: unclosed table, expected `]`"]);
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let declared =
            Declared::parse("[module.m]\nfile = \"m.wasm\"\n", Path::new("/etc/sandbar.toml")).unwrap();
        assert_eq!(declared.host().data_dir, Path::new("/etc/sandbar-data"));
        assert_eq!(declared.files(), [Path::new("/etc/sandbar.toml"), Path::new("/etc/m.wasm")]);
    }

    #[test]
    fn one_value_is_a_list_and_numbers_are_text() {
        let text = "[route.a]\ntopic = \"a/#\"\ningress = \"route/b\"\nmodule = \"m\"\nconfig = { a = 1.5, b = true }\n";
        let declared = Declared::parse(text, Path::new("x")).unwrap();
        let route = serde_json::to_value(&declared.routes["a"]).unwrap();
        assert_eq!(route["topic"], serde_json::json!(["a/#"]));
        assert_eq!(route["ingress"], serde_json::json!(["route/b"]));
        assert_eq!(route["config"], serde_json::json!({ "a": "1.5", "b": "true" }));
        let again: RouteTable = settings(route).unwrap();
        assert_eq!(again, declared.routes["a"]);
    }
}
