//! `sandbar test`: a module on recorded readings, without a host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use sandbar_control::tables::RouteTable;
use sandbar_control::{LogLevel, Played, Rehearsal};
use serde_json::{Map, Value};

use super::deploy::parse_setting;
use crate::output::{bytes, line};
use crate::project::{Project, component_of};
use crate::{answers, recording};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A module's folder, or a component or core module
    #[arg(default_value = ".")]
    what: PathBuf,
    /// Recorded readings, one JSON object a line [default: the folder's readings.jsonl]
    #[arg(long, value_name = "FILE")]
    readings: Option<PathBuf>,
    /// What should come of them, one JSON object a line [default: for the folder's own readings its expected.jsonl, if it has one]
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// What others answer over HTTP, one JSON object a line [default: the folder's http.jsonl, if it has one]
    #[arg(long, value_name = "FILE")]
    http: Option<PathBuf>,
    /// Write what happens to the file of what is expected, instead of comparing
    #[arg(long)]
    bless: bool,
    /// The route's settings, as a .toml file [default: the folder's]
    #[arg(long, value_name = "FILE")]
    route: Option<PathBuf>,
    /// A setting of the module, over the route's; may repeat
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    config: Vec<(String, String)>,
    /// This component, in the place of the folder's
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// What the handler logs, too
    #[arg(long)]
    logs: bool,
}

impl Options {
    pub(super) fn of_folder(folder: &Path) -> Self {
        Self {
            what: folder.to_owned(),
            readings: None,
            expect: None,
            http: None,
            bless: false,
            route: None,
            config: Vec::new(),
            module: None,
            logs: false,
        }
    }
}

/// What is tested, and with what.
struct Plan {
    component: Vec<u8>,
    route: RouteTable,
    readings: PathBuf,
    expected: Option<PathBuf>,
    answers: Option<PathBuf>,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let plan = plan(&options)?;
    let text = read(&plan.readings)?;
    let readings = recording::readings(&text).with_context(|| plan.readings.display().to_string())?;
    let answers = match &plan.answers {
        Some(file) => answers::answers(&read(file)?).with_context(|| file.display().to_string())?,
        None => Vec::new(),
    };
    let (compiled, _kept) = compiled()?;
    let mut rehearsal = Rehearsal::new(&plan.component, plan.route, compiled, answers).await?;
    let (mut happened, mut played) = (Vec::new(), Vec::new());
    for (index, (ingress, inbound)) in readings.into_iter().enumerate() {
        let one = rehearsal.play(ingress, inbound).await;
        happened.extend(recording::happened(index + 1, &one));
        if options.logs {
            show_logs(index + 1, &one);
        }
        played.push(one);
    }
    let summary = summary(&played, rehearsal.stats().memory_peak);
    match plan.expected {
        Some(file) if options.bless => {
            let text: String = happened.iter().map(|line| format!("{line}\n")).collect();
            std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
            Ok(line(format_args!("{summary}; {} is written", file.display()))?)
        }
        Some(file) => {
            let expected = lines(&file)?;
            let differences = differences(&happened, &expected);
            if differences.is_empty() {
                return Ok(line(format_args!("{summary}; all as expected"))?);
            }
            differences.iter().try_for_each(line)?;
            bail!("{summary}; not as {} expects (+ happened, - was expected)", file.display());
        }
        None => {
            happened.iter().try_for_each(line)?;
            eprintln!("{summary}");
            Ok(())
        }
    }
}

fn plan(options: &Options) -> anyhow::Result<Plan> {
    let project = options.what.is_dir().then(|| Project::load(&options.what)).transpose()?;
    let mut route = match (&options.route, &project) {
        (Some(file), _) => {
            toml::from_str::<Map<String, Value>>(&read(file)?).with_context(|| file.display().to_string())?
        }
        (None, Some(project)) => project.route.clone(),
        (None, None) => Map::new(),
    };
    if !options.config.is_empty() {
        let config = route.entry("config").or_insert_with(|| Value::Object(Map::new()));
        let config = config.as_object_mut().context("the route's `config` is no table")?;
        config.extend(options.config.iter().map(|(name, value)| (name.clone(), value.as_str().into())));
    }
    let beside = |name| project.as_ref().and_then(|project| project.beside(name));
    let readings = options.readings.clone().or_else(|| beside("readings.jsonl"));
    let readings = readings
        .context("there are no readings: name a file of them with --readings; `sandbar record` makes one")?;
    let expected = match (&options.expect, &project) {
        (Some(file), _) => Some(file.clone()),
        // What the folder expects, it expects of its own readings.
        (None, _) if options.readings.is_some() => None,
        (None, Some(project)) if options.bless => Some(project.folder.join("expected.jsonl")),
        (None, _) => beside("expected.jsonl"),
    };
    let answers = options.http.clone().or_else(|| beside(answers::FILE));
    if options.bless && expected.is_none() {
        bail!("--bless needs a file to write: name it with --expect");
    }
    let component = match (&options.module, &project) {
        (Some(file), _) => component_of(file)?,
        (None, Some(project)) => project.component()?,
        (None, None) => component_of(&options.what)?,
    };
    let route = serde_json::from_value(Value::Object(route)).context("the route's settings")?;
    Ok(Plan { component, route, readings, expected, answers })
}

/// Where compiled code is kept, because compiling takes longer than testing; in a directory for this once where
/// there is no home.
fn compiled() -> anyhow::Result<(PathBuf, Option<tempfile::TempDir>)> {
    let cache = match std::env::var_os("SANDBAR_CACHE") {
        Some(cache) => Some(PathBuf::from(cache)),
        None => std::env::home_dir().map(|home| home.join(".cache/sandbar")),
    };
    match cache.map(|cache| cache.join("compiled")) {
        Some(folder) if std::fs::create_dir_all(&folder).is_ok() => Ok((folder, None)),
        _ => {
            let once = tempfile::tempdir().context("making a directory for compiled code")?;
            Ok((once.path().to_owned(), Some(once)))
        }
    }
}

fn show_logs(number: usize, played: &Played) {
    for log in &played.logs {
        let level = match log.level {
            LogLevel::Critical => "CRITICAL",
            LogLevel::Error => "ERROR",
            LogLevel::Warn => "WARN",
            LogLevel::Info => "INFO",
            LogLevel::Debug => "DEBUG",
            LogLevel::Trace => "TRACE",
        };
        eprintln!("reading {number}: {level} {}", log.message);
    }
}

fn summary(played: &[Played], memory: usize) -> String {
    let outputs: usize = played.iter().map(|one| one.result.as_ref().map_or(0, Vec::len)).sum();
    let failed = played.iter().filter(|one| one.result.is_err()).count();
    let slowest = played.iter().map(|one| one.elapsed).max().unwrap_or(Duration::ZERO);
    format!(
        "{} readings, {outputs} outputs, {failed} failed; slowest {:.2} ms, memory {}",
        played.len(),
        slowest.as_secs_f64() * 1000.0,
        bytes(memory as u64)
    )
}

/// For every reading of which something else came, all that came and all that was expected.
fn differences(happened: &[Value], expected: &[Value]) -> Vec<String> {
    let mut by_reading: BTreeMap<u64, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    let number = |line: &Value| line["reading"].as_u64().unwrap_or(0);
    happened.iter().for_each(|line| by_reading.entry(number(line)).or_default().0.push(line));
    expected.iter().for_each(|line| by_reading.entry(number(line)).or_default().1.push(line));
    let mut lines = Vec::new();
    for (happened, expected) in by_reading.values() {
        let same = happened.len() == expected.len()
            && happened
                .iter()
                .zip(expected)
                .all(|(happened, expected)| recording::is_as_expected(happened, expected));
        if !same {
            lines.extend(expected.iter().map(|line| format!("- {line}")));
            lines.extend(happened.iter().map(|line| format!("+ {line}")));
        }
    }
    lines
}

fn lines(file: &Path) -> anyhow::Result<Vec<Value>> {
    let text = read(file)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            serde_json::from_str(line).with_context(|| format!("{}, line {}", file.display(), at + 1))
        })
        .collect()
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_readings_that_differ_are_shown() {
        let happened = [json!({ "reading": 1, "reject": "a" }), json!({ "reading": 2, "reject": "b" })];
        let expected = [json!({ "reading": 2, "reject": "c" }), json!({ "reading": 1, "reject": "a" })];
        assert_eq!(
            differences(&happened, &expected),
            [r#"- {"reading":2,"reject":"c"}"#, r#"+ {"reading":2,"reject":"b"}"#]
        );
        assert!(differences(&happened, &happened).is_empty());
        assert_eq!(differences(&[], &expected).len(), 2);
    }
}
