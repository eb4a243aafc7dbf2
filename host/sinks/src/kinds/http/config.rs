//! Settings of an HTTP sink.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;

use sandbar_reading::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// Sends every message as a request. A 2xx answer takes it; an answer listed under `reject` makes it a dead
/// letter; anything else, a lost connection too, is tried again later, not before the time that a
/// `Retry-After` names (one hour at most). Every request carries `Idempotency-Key`, the same at every attempt.
///
/// `url`, `method`, `headers`, `template` and `text` may be templates: `{{ payload.celsius }}`; see
/// `docs/guides/alerts.md` for their fields.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where to: `https://example.com/readings`. A redirect (307, 308) is followed on the same host only. Values in a
    /// template (`https://example.com/{{ device }}`) are percent-encoded; one after `| safe` is not.
    #[serde(default)]
    pub(super) url: Option<String>,
    /// In place of `url`, where the address itself is a secret, as that of a Slack webhook:
    /// `{ env = "NAME" }` or `{ file = "/path" }`, which is read again when it changes. Only its host is ever shown.
    #[serde(default)]
    pub(super) secret_url: Option<Secret>,
    /// `POST`, `PUT` or `PATCH`; without a body (`body = "none"`) also `GET` and `DELETE`.
    #[serde(default = "default_method")]
    pub(super) method: String,
    /// Further headers. Values may be secrets by reference: `Authorization = { file = "/run/secrets/token" }`, which is
    /// read again when it changes.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Secret>,
    /// An attempt may take so long, from connecting to the end of the answer.
    #[serde(default = "default_timeout_ms")]
    pub(super) timeout_ms: NonZeroU64,
    /// What a request consists of: `payload` (the default), `json`, `batch` or `none`.
    #[serde(default)]
    pub(super) body: Option<Body>,
    /// In place of `body`: what a request consists of, as a template. In JSON, values go through `| tojson`:
    /// `{"value": {{ payload.celsius | tojson }}}`.
    #[serde(default)]
    pub(super) template: Option<String>,
    /// Content type of what `template` makes. What claims to be JSON and is not makes the message a dead letter.
    #[serde(default)]
    pub(super) content_type: Option<String>,
    /// In place of `body`: what a service expects, `slack`, `teams`, `discord` or `influxdb`.
    #[serde(default)]
    pub(super) preset: Option<Preset>,
    /// What a chat service (`slack`, `teams`, `discord`) shows.
    #[serde(default)]
    pub(super) text: Option<String>,
    /// What InfluxDB stores.
    #[serde(default)]
    pub(super) influxdb: Option<InfluxConfig>,
    /// Status codes that refuse a message for good. Not 401, 403 and 404 by default: a wrong token or address
    /// should delay a week of messages, not bury them.
    #[serde(default = "default_reject")]
    pub(super) reject: Vec<u16>,
    /// A PEM file with certificates to trust beside the system's. It is read again when it changes.
    #[serde(default)]
    pub(super) ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Body {
    /// The payload as it is, with its content type. Topic, device, time and reading are the headers
    /// `Sandbar-Topic`, `Sandbar-Device`, `Sandbar-Time` and `Sandbar-Reading`.
    #[default]
    Payload,
    /// A JSON object: time, topic, device, content_type, attributes, payload (or payload_base64), route,
    /// reading, id.
    Json,
    /// A JSON array of such objects, all that wait in one request. If it is refused, its halves are sent,
    /// until the message that is at fault stands alone.
    Batch,
    /// Nothing; address and headers say all.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Preset {
    /// A Slack "incoming webhook". Values in `text` cannot mention people or make links.
    Slack,
    /// A Teams workflow "when a webhook request is received": an adaptive card.
    Teams,
    /// A Discord webhook; 2,000 characters at most, further ones are cut off. Nobody is mentioned.
    Discord,
    /// Line protocol, all that wait in one request, for `…/api/v2/write?org=…&bucket=…&precision=ns`.
    Influxdb,
}

/// What becomes a line of InfluxDB's: measurement, tags, fields, and the message's time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InfluxConfig {
    /// A template.
    #[serde(default = "default_measurement")]
    pub(super) measurement: String,
    /// Templates; what comes out empty is no tag. The default is the device.
    #[serde(default = "default_tags")]
    pub(super) tags: BTreeMap<String, String>,
    /// Where in a JSON payload the fields are, as JSON pointers: `{ celsius = "/t/c" }`. Without any, everything in
    /// it is a field: `{"t":{"c":21}}` becomes `t_c=21`. A payload that is no JSON is the field `value`. Numbers are
    /// floats: a field that is an integer once would refuse 21.5 ever after.
    #[serde(default)]
    pub(super) fields: BTreeMap<String, String>,
}

impl Default for InfluxConfig {
    fn default() -> Self {
        Self { measurement: default_measurement(), tags: default_tags(), fields: BTreeMap::new() }
    }
}

fn default_method() -> String {
    "POST".to_owned()
}

fn default_measurement() -> String {
    "{{ topic }}".to_owned()
}

fn default_tags() -> BTreeMap<String, String> {
    BTreeMap::from([("device".to_owned(), "{{ device | default('') }}".to_owned())])
}

const fn default_timeout_ms() -> NonZeroU64 {
    NonZeroU64::new(10_000).expect("not 0")
}

fn default_reject() -> Vec<u16> {
    vec![400, 413, 415, 422]
}
