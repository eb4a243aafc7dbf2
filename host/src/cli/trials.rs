//! `sandbar shadow`, `sandbar canary`, `sandbar promote`, `sandbar try` and `sandbar replay`: versions that are
//! looked at before, or while, they handle readings.

use std::path::PathBuf;

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::deploy::read_signature;
use super::{query, read_bytes};
use crate::client::Client;
use crate::output::{self, Column, at, line, payload};
use crate::project::component_of;

#[derive(Debug, clap::Args)]
pub(crate) struct ShadowOptions {
    /// The module
    name: String,
    /// The version that runs beside the active one; nothing comes of it
    version: u64,
    #[command(flatten)]
    limit: ErrorLimit,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CanaryOptions {
    /// The module
    name: String,
    /// The version that handles a share of the keys (by default: of the devices)
    version: u64,
    /// How many hundredths of them
    #[arg(long, default_value_t = 10.0)]
    percent: f64,
    #[command(flatten)]
    limit: ErrorLimit,
}

/// When the host gives up on a version by itself.
#[derive(Debug, clap::Args)]
struct ErrorLimit {
    /// Give up on it when it alone fails at more than so many hundredths of its readings …
    #[arg(long, default_value_t = 5.0, value_name = "PERCENT")]
    errors: f64,
    /// … but not before it has had so many
    #[arg(long, default_value_t = 20, value_name = "READINGS")]
    after: u64,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TrialOptions {
    /// The module
    name: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TryOptions {
    /// The component, or a script (FILE.js); or, with --version, none
    file: Option<PathBuf>,
    /// Its Ed25519 signature, if the host asks for one
    #[arg(long, value_name = "FILE", requires = "file")]
    signature: Option<PathBuf>,
    /// A version of the route's module instead of a file
    #[arg(long, conflicts_with = "file", required_unless_present = "file")]
    version: Option<u64>,
    /// A route, whose readings, settings and active version are taken; or a filter of topics, `sensors/#`
    #[arg(long, value_name = "ROUTE|FILTER")]
    from: String,
    /// With the settings and the active version of this route, if --from is a filter
    #[arg(long)]
    route: Option<String>,
    /// The newest so many readings
    #[arg(long, default_value_t = 100)]
    last: u32,
    /// Only readings accepted then or later: 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only readings accepted before
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The readings that the route could not handle
    #[arg(long, conflicts_with_all = ["since", "until"])]
    dead_letters: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct ReplayOptions {
    #[command(subcommand)]
    action: Option<ReplayAction>,
    /// The route whose readings are handled once more
    #[arg(long, required = true)]
    route: Option<String>,
    /// Readings accepted then or later: 2026-01-31T12:00:00Z
    #[arg(
        long,
        value_name = "TIME",
        conflicts_with = "dead_letters",
        required_unless_present = "dead_letters"
    )]
    since: Option<String>,
    /// Readings accepted before [default: now]
    #[arg(long, value_name = "TIME", conflicts_with = "dead_letters")]
    until: Option<String>,
    /// Only readings whose topic matches this filter
    #[arg(long, value_name = "FILTER", conflicts_with = "dead_letters")]
    topic: Option<String>,
    /// The readings that the route could not handle
    #[arg(long)]
    dead_letters: bool,
    /// The version of the route's module [default: the active one]
    #[arg(long)]
    version: Option<u64>,
    /// Let devices get what the handler commands
    #[arg(long)]
    commands: bool,
    /// Only show what would differ from the active version
    #[arg(long, conflicts_with = "commands", requires = "version")]
    trial: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum ReplayAction {
    /// All replays, newest first
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// How far one has come
    Show {
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Ends one; what it has put out stays
    Cancel { id: String },
}

pub(crate) async fn shadow(client: &Client, options: ShadowOptions) -> anyhow::Result<()> {
    let body = json!({ "version": options.version, "mode": "shadow" });
    put_candidate(client, &options.name, body, &options.limit).await
}

pub(crate) async fn canary(client: &Client, options: CanaryOptions) -> anyhow::Result<()> {
    let body = json!({ "version": options.version, "mode": "canary", "percent": options.percent });
    put_candidate(client, &options.name, body, &options.limit).await
}

async fn put_candidate(
    client: &Client,
    name: &str,
    mut body: Value,
    limit: &ErrorLimit,
) -> anyhow::Result<()> {
    body["errors_percent"] = limit.errors.into();
    body["errors_after"] = limit.after.into();
    let module = client.put(&["modules", name, "candidate"], &body).await?;
    if limit.json {
        return Ok(output::json(&module)?);
    }
    let version = at(&module, "/candidate/version");
    line(format_args!("{name}: version {version} is on trial beside version {}", at(&module, "/active")))?;
    Ok(line(format_args!(
        "look     sandbar trial {name}\nthen     sandbar promote {name}, or sandbar rollback {name}"
    ))?)
}

pub(crate) async fn promote(client: &Client, options: TrialOptions) -> anyhow::Result<()> {
    let name = options.name.as_str();
    let module = client.post(&["modules", name, "promote"], &Value::Object(Map::new())).await?;
    if options.json {
        return Ok(output::json(&module)?);
    }
    Ok(line(format_args!("{name}: version {} is active", at(&module, "/active")))?)
}

const COMPARED: &[Column] = &[
    Column { title: "ROUTE", cell: |item| at(item, "/route") },
    Column { title: "CALLS", cell: |item| at(item, "/calls") },
    Column { title: "ERRORS", cell: |item| at(item, "/errors") },
    Column { title: "SAME", cell: |item| at(item, "/same") },
    Column { title: "DIFFERENT", cell: |item| at(item, "/different") },
    Column { title: "MEAN µs", cell: |item| at(item, "/mean_us") },
    Column { title: "ACTIVE CALLS", cell: |item| at(item, "/active_calls") },
    Column { title: "ERRORS", cell: |item| at(item, "/active_errors") },
    Column { title: "MEAN µs", cell: |item| at(item, "/active_mean_us") },
];

pub(crate) async fn show(client: &Client, options: TrialOptions) -> anyhow::Result<()> {
    let module = client.get(&["modules", &options.name], &[]).await?;
    if options.json {
        return Ok(output::json(
            &json!({ "candidate": module["candidate"], "last_trial": module["last_trial"] }),
        )?);
    }
    let candidate = &module["candidate"];
    if candidate.is_null() {
        let last = &module["last_trial"];
        let ended = match last.is_null() {
            true => String::new(),
            false => {
                let (version, time, why) = (at(last, "/version"), at(last, "/time"), at(last, "/why"));
                format!("; that of version {version} ended at {time}: {why}")
            }
        };
        return Ok(line(format_args!("nothing is on trial{ended}"))?);
    }
    let percent = candidate["percent"].as_f64().map(|percent| format!(", {percent} %")).unwrap_or_default();
    line(format_args!(
        "version {}: {}{percent}, since {}\n",
        at(candidate, "/version"),
        at(candidate, "/mode"),
        at(candidate, "/since")
    ))?;
    output::listing(&json!({ "items": candidate["routes"] }), false, "no route uses the module", COMPARED)?;
    let routes = candidate["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
    for difference in routes.iter().flat_map(|route| route["differences"].as_array()).flatten() {
        line(format_args!("{}  {}", at(difference, "/reading"), at(difference, "/what")))?;
    }
    Ok(())
}

pub(crate) async fn try_out(client: &Client, options: TryOptions) -> anyhow::Result<()> {
    let component = match &options.file {
        Some(file) if file.as_os_str() == "-" => read_bytes(file)?,
        Some(file) => component_of(file)?,
        None => Vec::new(),
    };
    let is_filter = options.from.contains(['/', '#', '+']);
    let (route, topic) = match is_filter {
        true => (options.route, Some(options.from)),
        false => (Some(options.from), None),
    };
    let mut asked = query(&[
        ("route", &route),
        ("topic", &topic),
        ("since", &options.since),
        ("until", &options.until),
        ("version", &options.version.map(|version| version.to_string())),
    ]);
    asked.push(("last", options.last.to_string()));
    asked.push(("dead_letters", options.dead_letters.to_string()));
    let signature = options.signature.map(|file| read_signature(&file)).transpose()?;
    let result = client.post_component(&["try"], &asked, component.into(), signature.as_deref()).await?;
    print_tried(&result, options.json)
}

fn print_tried(result: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return Ok(output::json(result)?);
    }
    for item in result["items"].as_array().into_iter().flatten() {
        let (reading, topic) = (at(item, "/reading/id"), at(item, "/reading/topic"));
        line(format_args!("{reading}  {topic}  {}", payload(&item["reading"], 80)))?;
        if let Some(what) = item["difference"].as_str() {
            line(format_args!("  {what}"))?;
        }
        print_side("-", &item["active"])?;
        print_side("+", &item["candidate"])?;
    }
    Ok(line(format_args!(
        "{} readings tried: {} the same, {} different, {} failed; nothing was kept",
        at(result, "/tried"),
        at(result, "/same"),
        at(result, "/different"),
        at(result, "/failed"),
    ))?)
}

/// As a diff has it: `-` is the active version, `+` the one that is tried.
fn print_side(sign: &str, side: &Value) -> std::io::Result<()> {
    if side.is_null() {
        return Ok(());
    }
    if let Some(cause) = side.pointer("/fault/cause") {
        return line(format_args!("  {sign} failed: {}", output::cell(cause)));
    }
    let outputs = side["outputs"].as_array().map(Vec::as_slice).unwrap_or_default();
    if outputs.is_empty() {
        line(format_args!("  {sign} no outputs"))?;
    }
    for output in outputs {
        let to = if output["topic"].is_null() { at(output, "/device") } else { at(output, "/topic") };
        line(format_args!("  {sign} {} {to}  {}", at(output, "/kind"), payload(output, 120)))?;
    }
    for write in side["state"].as_array().into_iter().flatten() {
        let value = match write["deleted"].as_bool() {
            Some(true) => "deleted".to_owned(),
            _ => payload(write, 80),
        };
        line(format_args!("  {sign} state {}: {value}", at(write, "/name")))?;
    }
    Ok(())
}

const REPLAYS: &[Column] = &[
    Column { title: "ID", cell: |item| at(item, "/id") },
    Column { title: "ROUTE", cell: |item| at(item, "/route") },
    Column { title: "VERSION", cell: |item| at(item, "/version") },
    Column { title: "STATE", cell: |item| at(item, "/state") },
    Column { title: "BEGUN", cell: |item| at(item, "/begun") },
    Column { title: "HANDLED", cell: |item| at(item, "/handled") },
    Column { title: "OUTPUTS", cell: |item| at(item, "/outputs") },
    Column { title: "FAILED", cell: |item| at(item, "/failed") },
];

pub(crate) async fn replay(client: &Client, options: ReplayOptions) -> anyhow::Result<()> {
    match options.action {
        Some(ReplayAction::List { json }) => {
            let replays = client.get(&["replays"], &[]).await?;
            return Ok(output::listing(&replays, json, "no replays", REPLAYS)?);
        }
        Some(ReplayAction::Show { id, json }) => {
            return print_replay(&client.get(&["replays", &id], &[]).await?, json);
        }
        Some(ReplayAction::Cancel { id }) => {
            return print_replay(&client.delete(&["replays", &id]).await?, false);
        }
        None => {}
    }
    let route = options.route.context("a replay is of a route: --route")?;
    if options.trial {
        let mut asked = query(&[
            ("route", &Some(route)),
            ("topic", &options.topic),
            ("since", &options.since),
            ("until", &options.until),
            ("version", &options.version.map(|version| version.to_string())),
        ]);
        asked.push(("last", "1000".to_owned()));
        asked.push(("dead_letters", options.dead_letters.to_string()));
        let result = client.post_component(&["try"], &asked, Vec::new().into(), None).await?;
        return print_tried(&result, options.json);
    }
    let mut body =
        json!({ "route": route, "dead_letters": options.dead_letters, "commands": options.commands });
    let settings = [("since", &options.since), ("until", &options.until), ("topic", &options.topic)];
    for (name, value) in settings {
        if let Some(value) = value {
            body[name] = value.as_str().into();
        }
    }
    if let Some(version) = options.version {
        body["version"] = version.into();
    }
    print_replay(&client.post(&["replays"], &body).await?, options.json)
}

fn print_replay(replay: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return Ok(output::json(replay)?);
    }
    output::listing(&json!({ "items": [replay] }), false, "", REPLAYS)?;
    for failure in replay["failures"].as_array().into_iter().flatten() {
        line(format_args!("{}  {}", at(failure, "/reading"), at(failure, "/cause")))?;
    }
    if replay["state"] == "running" {
        line(format_args!("look     sandbar replay show {}", at(replay, "/id")))?;
    }
    Ok(())
}
