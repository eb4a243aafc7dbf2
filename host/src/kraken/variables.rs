//! The variables themselves: which there are, and how their values are read.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

pub(super) const PREFIX: &str = "KRKNC_";

/// All 43, without their prefix, by the collector that they belong to.
pub(super) const NAMES: [&str; 43] = [
    "BROKER_HOST",
    "WEBHOOK_PATH",
    "WEBHOOK_PORT",
    "MQTT_HOST",
    "MQTT_TOPIC",
    "MQTT_CONFIG_PATH",
    "WEBSOCKET_HOST",
    "WEBSOCKET_SUB_PROTOCOL",
    "IBEACON_FILTER_DURATION_SEC",
    "IBEACON_ALLOWED_UUID_FILTER_PATH",
    "SERIAL_DEVICE_NAME",
    "SERIAL_PORT",
    "SERIAL_BAUDRATE",
    "SERIAL_TIMEOUT_SEC",
    "TEXTFILE_TARGET_FILE_PATH",
    "TEXTFILE_MONITOR_DIR_PATH",
    "TEXTFILE_GET_INTERVAL_SEC",
    "TEXTFILE_MONITORING_MODE",
    "TEXTFILE_ALLOW_CREATE",
    "TEXTFILE_ALLOW_MODIFY",
    "TEXTFILE_REMOVE_CREATED_FILE_AFTER_READ",
    "TEXTFILE_REMOVE_FILES_EXCEPT_MODIFIED_AFTER_READ",
    "TEXTFILE_REMOVE_ALL_FILES_AFTER_READ",
    "TEXTFILE_REMOVE_ALL_FOLDER_AFTER_READ",
    "CAMERA_CAPTURE_INTERVAL_SEC",
    "EMAIL_HOST_ADDR",
    "EMAIL_SMTP_PORT",
    "EMAIL_MAX_MESSAGE_SIZE",
    "EMAIL_MAX_ATTACHMENT_SIZE",
    "EMAIL_DOMAIN",
    "EMAIL_AUTH_REQUIRED",
    "EMAIL_ALLOWED_SENDERS",
    "EMAIL_TLS_ENABLED",
    "EMAIL_TLS_CERT_PATH",
    "EMAIL_TLS_KEY_PATH",
    "EMAIL_TLS_REQUIRE",
    "BJIG_DEVICE_PATH",
    "BJIG_CLI_BIN_PATH",
    "BJIG_DATA_TIMEOUT_SEC",
    "BJIG_ACTION_COOLDOWN_SEC",
    "TCP_HOST",
    "TCP_PORT",
    "TCP_BUFFER_SIZE",
];

/// What Kraken's code reads where its documentation has another name.
const SPELLED_OTHERWISE: [(&str, &str); 1] = [("IBEACON_FILTER_DURATION", "IBEACON_FILTER_DURATION_SEC")];

/// A variable that cannot be understood; its text begins with its name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{PREFIX}{name}: {problem}")]
pub(crate) struct VariableError {
    name: String,
    problem: String,
}

/// What was set, by name without prefix. An empty value counts as not set.
#[derive(Debug)]
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    pub(super) fn read(environment: impl Iterator<Item = (String, String)>) -> Result<Self, VariableError> {
        let mut variables = BTreeMap::new();
        for (name, value) in environment {
            let Some(name) = name.strip_prefix(PREFIX) else { continue };
            if value.contains('\u{fffd}') {
                return Err(error(name, "is not UTF-8"));
            }
            let known =
                SPELLED_OTHERWISE.iter().find(|(other, _)| *other == name).map_or(name, |(_, known)| known);
            if !NAMES.contains(&known) {
                return Err(error(
                    name,
                    format!("is none of Kraken's variables; did you mean {PREFIX}{}?", nearest(name)),
                ));
            }
            let value = value.trim();
            if value.is_empty() {
                continue;
            }
            if variables.insert(known.to_owned(), value.to_owned()).is_some_and(|other| other != value) {
                return Err(error(name, format!("and {PREFIX}{known} say different things")));
            }
        }
        Ok(Self(variables))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first variable that is set of those that begin with `collector` and `_`: with one the collector is
    /// started.
    pub(super) fn first_of(&self, collector: &str) -> Option<&str> {
        let begins = |name: &&String| name.strip_prefix(collector).is_some_and(|rest| rest.starts_with('_'));
        self.0.keys().find(begins).map(String::as_str)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(NAMES.contains(&name), "{name}");
        self.0.get(name).map(String::as_str)
    }

    /// The value, without which the collector cannot be started.
    pub(super) fn required(&self, name: &str, because: &str) -> Result<&str, VariableError> {
        self.get(name).ok_or_else(|| error(name, format!("is not set, but {PREFIX}{because} is")))
    }

    pub(super) fn number<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, VariableError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|problem| error(name, format!("`{text}` is no number that fits: {problem}")))
    }

    /// Seconds, perhaps with a fraction, as milliseconds.
    pub(super) fn millis(&self, name: &str) -> Result<Option<i64>, VariableError> {
        const MOST: f64 = 1e9;
        let Some(seconds) = self.number::<f64>(name)? else { return Ok(None) };
        match seconds > 0.0 && seconds <= MOST {
            true => Ok(Some((seconds * 1000.0).round().max(1.0) as i64)),
            false => Err(error(name, format!("`{seconds}` is no number of seconds above 0"))),
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, VariableError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(Some(true)),
            "false" | "0" | "no" | "off" => Ok(Some(false)),
            _ => Err(error(name, format!("`{text}` is neither true nor false"))),
        }
    }

    /// Where to listen: `0.0.0.0`, `0.0.0.0:9000`, `localhost:9000`, `[::]:9000`; without a port at `port`.
    pub(super) fn listen(&self, name: &str, port: u16) -> Result<Option<SocketAddr>, VariableError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let text = text.split_once("://").map_or(text, |(_, rest)| rest).trim_end_matches('/');
        let local = text.replacen("localhost", "127.0.0.1", 1);
        let bare = || local.trim_matches(['[', ']']).parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port));
        local.parse().or_else(|_| bare()).map(Some).map_err(|_| {
            error(
                name,
                format!("`{text}` is no address of this machine to listen at, such as 0.0.0.0:{port}"),
            )
        })
    }
}

pub(super) const ANYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

pub(super) fn error(name: &str, problem: impl Into<String>) -> VariableError {
    VariableError { name: name.to_owned(), problem: problem.into() }
}

/// The known name that has the most pieces in common with `name`, the likelier spelled alike.
fn nearest(name: &str) -> &'static str {
    let pieces: Vec<&str> = name.split('_').collect();
    let alike = |known: &str| {
        let common = known.split('_').filter(|piece| pieces.contains(piece)).count();
        let beginning = known.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        (common, beginning)
    };
    NAMES.into_iter().max_by_key(|known| alike(known)).unwrap_or(NAMES[0])
}
