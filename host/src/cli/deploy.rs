//! `sandbar deploy` and `sandbar rollback`: which version of a module handles readings.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sandbar_control::script;
use serde_json::{Map, Value, json};

use super::read_bytes;
use super::source::{self, RegistryOptions};
use crate::client::{Client, ClientError};
use crate::componentize::{Texts, componentize, is_component};
use crate::output::{self, at, bytes, line};
use crate::project::{MANIFEST, Project};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What the module is called [default: as the script]; or, without a component, a module's folder [default: .]
    name: Option<String>,
    /// The component: a file, https://… with --digest, or oci://registry/repository[:tag][@sha256:…]; a core module
    /// becomes one
    #[arg(conflicts_with = "script")]
    file: Option<String>,
    /// A script in JavaScript, instead of a component: the host runs it itself
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// The SHA-256 that it must have
    #[arg(long, value_name = "SHA256", requires = "file")]
    digest: Option<String>,
    /// Its Ed25519 signature, 64 bytes or base 64 of them [default: FILE.sig, if that is there]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Keep the version that is active: this one waits for `sandbar modules activate`
    #[arg(long)]
    no_activate: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    registry: RegistryOptions,
    #[command(flatten)]
    route: RouteOptions,
}

/// The route that is made or replaced along with the upload.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Route")]
struct RouteOptions {
    /// What the route is called [default: as the module]
    #[arg(id = "route", long, value_name = "NAME", requires = "topic")]
    name: Option<String>,
    /// Readings whose topic matches this filter, `sensors/+/temperature` or `sensors/#`; may repeat
    #[arg(long, value_name = "FILTER")]
    topic: Vec<String>,
    /// Only readings of this ingress; may repeat
    #[arg(long, requires = "topic")]
    ingress: Vec<String>,
    /// Only readings of this device; may repeat
    #[arg(long, requires = "topic")]
    device: Vec<String>,
    /// Where its messages go; may repeat
    #[arg(long = "sink", value_name = "SINK", requires = "topic")]
    sinks: Vec<String>,
    /// What is handled in order and shares its state: device, topic, none, attribute:NAME, pointer:/json
    #[arg(long, requires = "topic")]
    key: Option<String>,
    /// A setting of the module; may repeat
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting, requires = "topic")]
    config: Vec<(String, String)>,
    /// The module's reply answers the sender
    #[arg(long, requires = "topic")]
    reply: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RollbackOptions {
    /// The module
    name: String,
    /// The version to go back to [default: the one before the active one that was active, too]
    version: Option<u64>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(client: &Client, options: Options) -> anyhow::Result<()> {
    let (component, from) = match (&options.file, &options.script) {
        (Some(file), _) => {
            let bytes = source::component(file, options.digest.as_deref(), &options.registry).await?;
            (component_from(bytes, file)?, file.clone())
        }
        (None, Some(script)) => (script_at(script)?, script.display().to_string()),
        (None, None) => return folder(client, &options).await,
    };
    let beside = PathBuf::from(format!("{from}.sig"));
    let signature = options.signature.clone().or_else(|| beside.exists().then_some(beside));
    let signature = signature.map(|file| read_signature(&file)).transpose()?;
    let stem = options.script.as_deref().and_then(|script| script.file_stem()?.to_str());
    let name = options.name.as_deref().or(stem).context("say what the module is called")?;
    let route_name = options.route.name.as_deref().unwrap_or(name);
    let route = (!options.route.topic.is_empty()).then(|| (route_name, options.route.table(name)));
    let deployment = Deployment { name, component: component.into(), signature, route };
    let mut uploaded = match options.no_activate {
        true => deployment.keep(client).await?,
        false => deployment.activate(client).await?,
    };
    if uploaded["active"] == true {
        // The route may have been made after the upload.
        let module = client.get(&["modules", name], &[]).await?;
        uploaded["not_granted"] = module["not_granted"].clone();
    }
    if options.json {
        return Ok(output::json(&uploaded)?);
    }
    print_uploaded(&uploaded)?;
    print_not_granted(&uploaded)?;
    match &deployment.route {
        Some((route, _)) => line(format_args!("route    {route}: see it work with `sandbar tail`"))?,
        None if options.no_activate => {
            line(format_args!("next     sandbar modules activate {name} {}", at(&uploaded, "/version")))?;
        }
        None => {}
    }
    Ok(())
}

/// A component, or what becomes of a core module.
fn component_from(bytes: Vec<u8>, from: &str) -> anyhow::Result<Vec<u8>> {
    match is_component(&bytes) {
        true => Ok(bytes),
        false => {
            componentize(&bytes, Texts::Utf8).with_context(|| format!("{from} cannot become a component"))
        }
    }
}

fn script_at(file: &Path) -> anyhow::Result<Vec<u8>> {
    let text = String::from_utf8(read_bytes(file)?)
        .with_context(|| format!("{} is not UTF-8 text", file.display()))?;
    Ok(script::javascript(&text).to_vec())
}

async fn folder(client: &Client, options: &Options) -> anyhow::Result<()> {
    let path = Path::new(options.name.as_deref().unwrap_or("."));
    if !path.is_dir() {
        bail!("{} is no folder: give a module's name and its component", path.display());
    }
    if !options.route.topic.is_empty() || options.no_activate || options.json {
        bail!("a folder says itself in {MANIFEST} how it is deployed");
    }
    if options.registry.is_given() {
        bail!("a folder's component comes from no registry");
    }
    project(client, &Project::load(path)?, options.signature.as_deref()).await
}

/// Uploads a folder's module, and puts its route. `signature`: instead of the one beside the component.
pub(super) async fn project(
    client: &Client,
    project: &Project,
    signature: Option<&Path>,
) -> anyhow::Result<()> {
    let name = project.name.as_str();
    let signature = match signature {
        Some(file) => Some(read_signature(file)?),
        None => project.signature()?,
    };
    let route = (!project.route.is_empty()).then(|| {
        let mut route = project.route.clone();
        route.insert("module".into(), name.into());
        (name, Value::Object(route))
    });
    let deployment = Deployment { name, component: project.component()?.into(), signature, route };
    let uploaded = deployment.activate(client).await?;
    line(format_args!("{name}: version {} is active", at(&uploaded, "/version")))?;
    if deployment.route.is_none() {
        return Ok(());
    }
    print_not_granted(&client.get(&["modules", name], &[]).await?)?;
    Ok(line(format_args!("{name}: the route is in place; see it work with `sandbar tail`"))?)
}

/// A version, and the route that comes with it.
struct Deployment<'a> {
    name: &'a str,
    component: Bytes,
    signature: Option<String>,
    /// What it is called, and its table.
    route: Option<(&'a str, Value)>,
}

impl Deployment<'_> {
    /// Keeps the version that is active.
    async fn keep(&self, client: &Client) -> anyhow::Result<Value> {
        let uploaded = self.upload(client, false).await.with_context(|| self.failed())?;
        self.put_route(client).await.with_context(|| self.half_way())?;
        Ok(uploaded)
    }

    /// The version, then the route. If the route is refused, the version that was active is so again.
    async fn activate(&self, client: &Client) -> anyhow::Result<Value> {
        let before = active(client, self.name).await.with_context(|| self.failed())?;
        let uploaded = match self.upload(client, true).await {
            Err(refused) if refused.is("conflict") => return self.after_its_route(client, refused).await,
            uploaded => uploaded.with_context(|| self.failed())?,
        };
        let Err(refused) = self.put_route(client).await else { return Ok(uploaded) };
        let Some(before) = before.filter(|before| uploaded["version"] != *before) else {
            return Err(refused).with_context(|| self.half_way());
        };
        activate(client, self.name, before).await.with_context(|| {
            format!("{} ({refused}), and version {before} is not active again", self.half_way())
        })?;
        Err(refused).with_context(|| format!("{}; version {before} is active again", self.half_way()))
    }

    /// The route, then the version, which has been `refused`: it may need a setting that the route has only now.
    async fn after_its_route(&self, client: &Client, refused: ClientError) -> anyhow::Result<Value> {
        let Some((route, _)) = &self.route else { return Err(refused).with_context(|| self.failed()) };
        // Without it, another route stands in the way.
        let Ok(old) = client.get(&["routes", route], &[]).await else {
            return Err(refused).with_context(|| self.failed());
        };
        self.put_route(client).await.with_context(|| {
            format!(
                "{} with the route as it is ({refused}), nor can the active version have the new one",
                self.failed()
            )
        })?;
        let refused = match self.upload(client, true).await {
            Ok(uploaded) => return Ok(uploaded),
            Err(refused) => refused,
        };
        client.put(&["routes", route], &table_of(old)).await.with_context(|| {
            format!("{} ({refused}), and the route {route} is not as it was", self.failed())
        })?;
        Err(refused).with_context(|| self.failed())
    }

    async fn upload(&self, client: &Client, activate: bool) -> Result<Value, ClientError> {
        let path = ["modules", self.name];
        client.put_component(&path, self.component.clone(), self.signature.as_deref(), activate).await
    }

    async fn put_route(&self, client: &Client) -> Result<(), ClientError> {
        match &self.route {
            Some((route, table)) => client.put(&["routes", route], table).await.map(drop),
            None => Ok(()),
        }
    }

    fn failed(&self) -> String {
        format!("{} was not deployed", self.name)
    }

    fn half_way(&self) -> String {
        let route = self.route.as_ref().map_or(self.name, |(route, _)| *route);
        format!("{} was uploaded, but the route {route} was not made", self.name)
    }
}

/// The version that handles readings, if there is such a module.
async fn active(client: &Client, name: &str) -> Result<Option<u64>, ClientError> {
    match client.get(&["modules", name], &[]).await {
        Ok(module) => Ok(module["active"].as_u64()),
        Err(error) if error.is("not-found") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Of a route as the API shows it, what it takes.
fn table_of(mut route: Value) -> Value {
    if let Some(shown) = route.as_object_mut() {
        shown.retain(|setting, _| !["name", "declared", "status"].contains(&setting.as_str()));
    }
    route
}

pub(crate) async fn roll_back(client: &Client, options: RollbackOptions) -> anyhow::Result<()> {
    let name = options.name.as_str();
    let module = client.get(&["modules", name], &[]).await?;
    if options.version.is_none() && !module["candidate"].is_null() {
        client.delete(&["modules", name, "candidate"]).await?;
        let module = client.get(&["modules", name], &[]).await?;
        if options.json {
            return Ok(output::json(&module)?);
        }
        return Ok(line(format_args!(
            "{name}: the trial is over, version {} stays active",
            at(&module, "/active")
        ))?);
    }
    let version = match options.version {
        Some(version) => version,
        None => {
            before_active(&module).with_context(|| format!("{name} has no version before its active one"))?
        }
    };
    let activated = activate(client, name, version).await?;
    if options.json {
        return Ok(output::json(&activated)?);
    }
    Ok(line(format_args!("{name}: version {version} is active, was {}", at(&module, "/active")))?)
}

pub(crate) async fn activate(client: &Client, name: &str, version: u64) -> Result<Value, ClientError> {
    client.post(&["modules", name, "activate"], &json!({ "version": version })).await
}

impl RouteOptions {
    /// As the API takes it: only what was said.
    fn table(&self, module: &str) -> Value {
        let mut table = Map::new();
        table.insert("module".into(), module.into());
        let lists = [
            ("topic", &self.topic),
            ("ingress", &self.ingress),
            ("device", &self.device),
            ("sinks", &self.sinks),
        ];
        for (setting, values) in lists {
            if !values.is_empty() {
                table.insert(setting.into(), values.clone().into());
            }
        }
        if let Some(key) = &self.key {
            table.insert("key".into(), key.as_str().into());
        }
        if !self.config.is_empty() {
            let config = self.config.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
            table.insert("config".into(), Value::Object(config.collect()));
        }
        if self.reply {
            table.insert("reply".into(), true.into());
        }
        Value::Object(table)
    }
}

fn print_uploaded(uploaded: &Value) -> std::io::Result<()> {
    let active = match uploaded["active"].as_bool() {
        Some(false) => "not active",
        _ => "active",
    };
    line(format_args!("module   {}", at(uploaded, "/name")))?;
    line(format_args!("version  {}, {active}", at(uploaded, "/version")))?;
    line(format_args!("digest   {}", at(uploaded, "/digest")))?;
    line(format_args!("size     {}", bytes(uploaded["size"].as_u64().unwrap_or_default())))?;
    let imports = uploaded["imports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut title = "imports";
    for import in imports {
        line(format_args!("{title:7}  {}", output::cell(import)))?;
        title = "";
    }
    if imports.is_empty() {
        line("imports  nothing")?;
    }
    Ok(())
}

/// As base 64.
pub(crate) fn read_signature(file: &Path) -> anyhow::Result<String> {
    let bytes = read_bytes(file)?;
    if bytes.len() == 64 {
        return Ok(STANDARD.encode(bytes));
    }
    let text = String::from_utf8(bytes).ok().map(|text| text.trim().to_owned());
    let is_signature = |text: &String| STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 64);
    match text.filter(is_signature) {
        Some(text) => Ok(text),
        None => bail!("{} is no signature: 64 bytes, or base 64 of them", file.display()),
    }
}

/// Of what it imports, what does not do what its name says.
fn print_not_granted(uploaded: &Value) -> std::io::Result<()> {
    let mut title = "denied";
    for not in uploaded["not_granted"].as_array().into_iter().flatten() {
        let routes = match not["routes"].as_array().map(Vec::as_slice) {
            Some([]) | None => String::new(),
            Some(_) => format!(" on {}", at(not, "/routes")),
        };
        let grant = match not["permission"].as_str() {
            Some(permission) => format!(" (permissions.{permission})"),
            None => String::new(),
        };
        line(format_args!("{title:7}  {}{routes}: {}{grant}", at(not, "/import"), at(not, "/instead")))?;
        title = "";
    }
    Ok(())
}

/// The highest version below the active one that has been active itself: a canary that was taken back has not.
fn before_active(module: &Value) -> Option<u64> {
    let active = module["active"].as_u64()?;
    let versions = module["versions"].as_array()?;
    versions
        .iter()
        .filter(|version| version["never_active"] != true)
        .filter_map(|version| version["version"].as_u64())
        .filter(|version| *version < active)
        .max()
}

pub(super) fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must be NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(active: u64, versions: &[u64]) -> Value {
        let versions: Vec<Value> = versions.iter().map(|version| json!({ "version": version })).collect();
        json!({ "active": active, "versions": versions })
    }

    #[test]
    fn rolls_back_to_the_version_before_the_active_one() {
        assert_eq!(before_active(&module(3, &[1, 2, 3])), Some(2));
        assert_eq!(before_active(&module(2, &[3, 2, 1])), Some(1), "not the newest but one");
        assert_eq!(before_active(&module(5, &[5, 2])), Some(2), "versions may be gone");
        assert_eq!(before_active(&module(1, &[1, 2])), None);
        let mut canary = module(3, &[1, 2, 3]);
        canary["versions"][1]["never_active"] = true.into();
        assert_eq!(before_active(&canary), Some(1), "it was only on trial");
    }

    #[test]
    fn the_route_says_only_what_was_said() {
        let options = RouteOptions {
            name: None,
            topic: vec!["sensors/#".into()],
            ingress: vec![],
            device: vec![],
            sinks: vec!["archive".into()],
            key: None,
            config: vec![parse_setting("field=a=b").unwrap()],
            reply: false,
        };
        let table = json!({ "module": "f", "topic": ["sensors/#"], "sinks": ["archive"], "config": { "field": "a=b" } });
        assert_eq!(options.table("f"), table);
    }
}
