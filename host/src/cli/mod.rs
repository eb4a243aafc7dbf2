//! The command line: one file a group of commands. Whatever they do, the API does.

mod build;
mod check;
mod connections;
mod dead_letters;
mod deploy;
mod dev;
mod devices;
mod docs;
mod keys;
mod modules;
mod new;
mod outbox;
mod readings;
mod record;
mod send;
mod source;
mod status;
mod tables;
mod tail;
mod test;
mod trials;
mod users;
mod why;

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

pub(crate) use self::deploy::read_signature;
use crate::client::{Client, Token};
use crate::run::{self, Stopped};

const EXIT_CODES: &str = "\
Exit codes: 0 done (run: stopped gracefully), 1 failed, 2 run: stopped by force after its grace, 64 wrong usage.
A host's token is read from DATA/token unless it is given.";

/// A stream processor for edge boxes: readings in over any protocol, through your WebAssembly handlers, out to
/// your sinks, and nothing acknowledged is ever lost.
#[derive(Debug, Parser)]
#[command(name = "sandbar", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub log: LogOptions,
    #[command(flatten)]
    host: HostOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LogOptions {
    /// What is logged: `info`, `debug`, `warn,sandbar_store=trace` …; to standard error
    #[arg(
        long = "log",
        global = true,
        env = "SANDBAR_LOG",
        hide_env_values = true,
        value_name = "FILTER",
        help_heading = "Global"
    )]
    pub filter: Option<String>,
    /// Lines for people, or one JSON object each
    #[arg(long = "log-format", global = true, value_enum, default_value_t, help_heading = "Global")]
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    #[default]
    Human,
    Json,
}

/// Which host the commands speak to.
#[derive(Clone, Debug, clap::Args)]
struct HostOptions {
    /// Where the host's API is
    #[arg(
        long,
        global = true,
        env = "SANDBAR_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:7420",
        help_heading = "Global"
    )]
    url: String,
    /// The host's token; else it is read from DATA/token
    #[arg(long, global = true, env = "SANDBAR_TOKEN", hide_env_values = true, help_heading = "Global")]
    token: Option<String>,
    /// The host's data directory [default: what the configuration says, else sandbar-data; who asks a host looks in the folders above, too]
    #[arg(
        long,
        global = true,
        env = "SANDBAR_DATA",
        hide_env_values = true,
        value_name = "DIR",
        help_heading = "Global"
    )]
    data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a host until it is told to stop
    Run(run::Options),
    /// Makes a folder with a module that builds, tests and deploys
    New(new::Options),
    /// Builds the module in a folder
    Build(build::Options),
    /// Runs a module on recorded readings, without a host, and compares what comes of them
    Test(test::Options),
    /// Records readings as they pass by, for `sandbar test`
    Record(record::Options),
    /// Builds, tests and deploys a module's folder whenever it changes, and shows what comes of it
    Dev(dev::Options),
    /// Makes a component without WASI of a core module
    Componentize(build::ComponentizeOptions),
    /// Uploads a component and makes it the active version; with --topic also routes readings through it
    Deploy(deploy::Options),
    /// Makes an earlier version of a module the active one
    Rollback(deploy::RollbackOptions),
    /// Runs a version beside the active one on the same readings, and compares; nothing comes of it
    Shadow(trials::ShadowOptions),
    /// Lets a version handle a share of the keys; the host takes it back when it fails too often
    Canary(trials::CanaryOptions),
    /// How the version on trial does, or how the last trial ended
    Trial(trials::TrialOptions),
    /// Makes the version on trial the active one
    Promote(trials::TrialOptions),
    /// Tries a component on journaled readings, and shows what differs from the active version; nothing is kept
    Try(trials::TryOptions),
    /// Handles readings of a time range, or dead letters, once more
    Replay(trials::ReplayOptions),
    /// Modules: uploaded components, their versions
    Modules(modules::Options),
    /// Routes: which readings go through which module to which sinks
    Routes(tables::Options),
    /// Ingresses: where readings come in
    Ingresses(tables::Options),
    /// Sinks: where messages go out
    Sinks(tables::Options),
    /// Shows readings, outputs and dead letters as they happen
    Tail(tail::Options),
    /// What became of a reading: routes, attempts, deliveries, and why
    Trace(why::TraceOptions),
    /// What a route's handler logs
    Logs(why::LogsOptions),
    /// Hands a reading to the host, and prints its id once it is on disk
    Send(send::Options),
    /// What was accepted, newest first
    Readings(readings::Options),
    /// What waits to be delivered
    Outbox(outbox::Options),
    /// The connections that ingresses have open
    Connections(connections::Options),
    /// Devices: which there are, what they report, commands for them
    Devices(devices::Options),
    /// What was given up on: look at it, try it again, drop it
    DeadLetters(dead_letters::Options),
    /// How the host is doing
    Status(status::Options),
    /// Checks a configuration without running it, with the line that is wrong
    Check(check::Options),
    /// Keys of Pyaiot's gateways, in a file that `keys_file` of a Pyaiot ingress names
    Keys(keys::Options),
    /// Users of an MQTT broker and their passwords' hashes, in a file that its `users_file` names
    Users(users::Options),
    /// Writes the reference pages of this binary's drivers and sinks
    Docs(docs::Options),
    /// Prints what makes a shell complete these commands
    Completions { shell: clap_complete::Shell },
}

impl Cli {
    /// What is logged unless --log says otherwise.
    pub(crate) fn log_default(&self) -> &'static str {
        match self.command {
            Command::Run(_) => "info",
            _ => "warn",
        }
    }

    pub(crate) async fn run(self) -> anyhow::Result<Stopped> {
        let host = &self.host;
        match self.command {
            Command::Run(options) => return run::run(options, host.data.clone(), host.token.clone()).await,
            Command::Check(options) => return check::run(options).await.map(|()| Stopped::Gracefully),
            Command::Docs(options) => docs::run(&options)?,
            Command::Keys(options) => keys::run(&options)?,
            Command::Users(options) => users::run(&options)?,
            Command::New(options) => new::run(&options)?,
            Command::Build(options) => build::run(&options)?,
            Command::Componentize(options) => build::run_componentize(&options)?,
            Command::Test(options) => test::run(options).await?,
            Command::Record(options) => record::run(&host.client()?, options).await?,
            Command::Dev(options) => dev::run(&host.client()?, options).await?,
            Command::Completions { shell } => {
                clap_complete::generate(shell, &mut Self::command(), "sandbar", &mut io::stdout());
            }
            Command::Deploy(options) => deploy::run(&host.client()?, options).await?,
            Command::Rollback(options) => deploy::roll_back(&host.client()?, options).await?,
            Command::Shadow(options) => trials::shadow(&host.client()?, options).await?,
            Command::Canary(options) => trials::canary(&host.client()?, options).await?,
            Command::Trial(options) => trials::show(&host.client()?, options).await?,
            Command::Promote(options) => trials::promote(&host.client()?, options).await?,
            Command::Try(options) => trials::try_out(&host.client()?, options).await?,
            Command::Replay(options) => trials::replay(&host.client()?, options).await?,
            Command::Trace(options) => why::trace(&host.client()?, options).await?,
            Command::Logs(options) => why::logs(&host.client()?, options).await?,
            Command::Modules(options) => modules::run(&host.client()?, options).await?,
            Command::Routes(options) => tables::run(&host.client()?, &tables::ROUTES, options).await?,
            Command::Ingresses(options) => tables::run(&host.client()?, &tables::INGRESSES, options).await?,
            Command::Sinks(options) => tables::run(&host.client()?, &tables::SINKS, options).await?,
            Command::Tail(options) => tail::run(&host.client()?, options).await?,
            Command::Send(options) => send::run(&host.client()?, options).await?,
            Command::Readings(options) => readings::run(&host.client()?, options).await?,
            Command::Outbox(options) => outbox::run(&host.client()?, options).await?,
            Command::Connections(options) => connections::run(&host.client()?, options).await?,
            Command::Devices(options) => devices::run(&host.client()?, options).await?,
            Command::DeadLetters(options) => dead_letters::run(&host.client()?, options).await?,
            Command::Status(options) => status::run(&host.client()?, options).await?,
        }
        Ok(Stopped::Gracefully)
    }
}

impl HostOptions {
    fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.url, self.find_token())?)
    }

    fn find_token(&self) -> Token {
        if let Some(token) = &self.token {
            return Token::Given(token.trim().to_owned());
        }
        let data = self.data.clone().unwrap_or_else(|| data_dir_from(Path::new("")));
        let file = data.join(sandbar_control::TOKEN_FILE);
        match std::fs::read_to_string(&file) {
            Ok(text) => Token::Given(text.trim().to_owned()),
            Err(error) => Token::Missing { file, cause: error.to_string() },
        }
    }
}

/// Where a host that was started in this folder, or in one above it, has its data: a module's folder lies in the box's.
fn data_dir_from(folder: &Path) -> PathBuf {
    let own = folder.join(run::DATA_DIR);
    let whole = std::path::absolute(folder.join(".")).unwrap_or_default();
    let above = whole.ancestors().skip(1).map(|above| above.join(run::DATA_DIR));
    let found = std::iter::once(own.clone())
        .chain(above)
        .find(|data| data.join(sandbar_control::TOKEN_FILE).is_file());
    found.unwrap_or(own)
}

/// The bytes of a file, or of standard input for `-`.
fn read_bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::stdin().lock(), &mut bytes).context("reading standard input")?;
        return Ok(bytes);
    }
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// Gives a file that is to take the place of `old`, if that is there, to whom that belongs: who could read it, still
/// can, also if root has written the new one.
fn inherit(old: &Path, new: &File) -> io::Result<()> {
    let metadata = match std::fs::metadata(old) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    fchown(new, Some(metadata.uid()), Some(metadata.gid()))?;
    new.set_permissions(metadata.permissions())
}

/// Only what was given, as a query.
fn query(parameters: &[(&'static str, &Option<String>)]) -> Vec<(&'static str, String)> {
    parameters.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?.clone()))).collect()
}

/// How much of a listing is shown.
#[derive(Clone, Debug, clap::Args)]
struct Page {
    /// At most so many
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Go on where an earlier listing ended
    #[arg(long)]
    cursor: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Page {
    fn add_to(&self, mut query: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
        query.push(("limit", self.limit.to_string()));
        query.extend(self.cursor.clone().map(|cursor| ("cursor", cursor)));
        query
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_documented_form_is_understood() {
        for line in [
            "sandbar run",
            "sandbar run --config my.toml --data /var/lib/sandbar --demo=false",
            "sandbar run --demo --grace-s 3 --log-format json --log debug",
            "sandbar new cold-room --lang rust",
            "sandbar new cold-room --lang ts",
            "sandbar build",
            "sandbar build cold-room",
            "sandbar test",
            "sandbar test f.wasm --readings r.jsonl --expect e.jsonl --config field=t --logs",
            "sandbar test . --bless",
            "sandbar record",
            "sandbar record - --topic sensors/# --count 5 --seconds 60",
            "sandbar dev cold-room --no-test",
            "sandbar componentize core.wasm -o f.wasm",
            "sandbar deploy",
            "sandbar deploy cold-room",
            "sandbar deploy --script convert.js --topic sensors/#",
            "sandbar deploy convert --script convert.js",
            "sandbar deploy fahrenheit f.wasm",
            "sandbar deploy fahrenheit f.wasm --route celsius --topic sensors/# --topic x/+ --sink file --sink http --config field=t --reply",
            "sandbar deploy fahrenheit f.wasm --no-activate --json",
            "sandbar rollback fahrenheit",
            "sandbar rollback fahrenheit 3",
            "sandbar modules",
            "sandbar modules --json",
            "sandbar modules get fahrenheit",
            "sandbar modules activate fahrenheit 2",
            "sandbar modules delete fahrenheit",
            "sandbar routes",
            "sandbar routes list --json",
            "sandbar routes put celsius route.toml",
            "sandbar sinks put archive -",
            "sandbar ingresses delete web",
            "sandbar tail --topic sensors/# --device boiler --json",
            "sandbar send sensors/boiler hello --device boiler --content-type text/plain",
            "sandbar send sensors/boiler -",
            "sandbar readings --topic sensors/# --since 2026-01-01T00:00:00Z --limit 5",
            "sandbar readings show 01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "sandbar outbox --target alerts",
            "sandbar connections --ingress mqtt",
            "sandbar outbox retry --target alerts",
            "sandbar devices",
            "sandbar devices --label room:cellar --presence lost --type robot --json",
            "sandbar devices show lamp-1",
            "sandbar devices put lamp-1 --name Lamp --type lamp --label room=cellar",
            "sandbar devices send lamp-1 led 1 --timeout 60",
            "sandbar devices query lamp-1 state --timeout 2 --json",
            "sandbar devices cancel lamp-1 01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "sandbar devices desire lamp-1 led 1",
            "sandbar devices commands lamp-1 --limit 5",
            "sandbar dead-letters --route celsius",
            "sandbar dead-letters show 01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "sandbar dead-letters redrive 01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "sandbar dead-letters redrive --all --route celsius",
            "sandbar dead-letters discard 01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "sandbar status --json --url http://box:7420 --token abc",
            "sandbar check sandbar.toml",
            "sandbar docs out",
            "sandbar completions bash",
        ] {
            // The one form that is not: a switch takes no value.
            let expected = !line.contains("--demo=false");
            assert_eq!(parse(line).is_ok(), expected, "{line}: {:?}", parse(line).err());
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for line in [
            "sandbar",
            "sandbar run --demo --config sandbar.toml",
            "sandbar dead-letters redrive",
            "sandbar dead-letters redrive --all 01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "sandbar dead-letters redrive 01ARZ3NDEKTSV4RRFFQ69G5FAV --route celsius",
            "sandbar deploy f f.wasm --sink file",
            "sandbar deploy f f.wasm --script f.js",
            "sandbar deploy f f.wasm --route r",
            "sandbar deploy f f.wasm --topic t --no-activate --config nothing",
            "sandbar rollback f latest",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_token_is_read_from_the_data_directory() {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("token"), "abc\n").unwrap();
        let options = |token: Option<&str>, data: &Path| HostOptions {
            url: String::new(),
            token: token.map(str::to_owned),
            data: Some(data.to_owned()),
        };
        assert!(matches!(options(None, data.path()).find_token(), Token::Given(token) if token == "abc"));
        assert!(
            matches!(options(Some("xyz"), data.path()).find_token(), Token::Given(token) if token == "xyz")
        );
        let elsewhere = options(None, &data.path().join("gone")).find_token();
        assert!(matches!(elsewhere, Token::Missing { file, .. } if file.ends_with("gone/token")));
    }

    #[test]
    fn a_hosts_data_is_found_from_a_folder_below_it() {
        let folder = tempfile::tempdir().unwrap();
        let module = folder.path().join("modules/mine");
        std::fs::create_dir_all(&module).unwrap();
        assert_eq!(data_dir_from(&module), module.join("sandbar-data"));
        let data = folder.path().join("sandbar-data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("token"), "abc\n").unwrap();
        assert_eq!(data_dir_from(&module), data);
        assert_eq!(data_dir_from(folder.path()), data);
    }
}
