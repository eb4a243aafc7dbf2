//! Settings of what leaves by OpenTelemetry.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use sandbar_reading::{ConfigError, Sampling, Secret};
use schemars::JsonSchema;
use serde::Deserialize;

/// What leaves by OpenTelemetry (OTLP over HTTP, binary); nothing, unless `otlp` says where to. What the collector
/// does not take in time is dropped and counted: it never keeps a reading waiting. Changes take effect at the next
/// start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryTable {
    /// Where the collector is: `http://127.0.0.1:4318`. Spans go to `/v1/traces` there, metrics to `/v1/metrics`.
    pub otlp: Option<String>,
    /// Further headers of every request. Values may be secrets by reference:
    /// `Authorization = { file = "/run/secrets/token" }`.
    pub headers: BTreeMap<String, Secret>,
    /// Of the readings that come without a trace, one in so many is traced; 0 traces none of them. One that comes
    /// with a trace (`traceparent`) is traced if that says so.
    pub trace_one_in: u32,
    /// Seconds between two reports of all metrics; 0 sends none.
    pub metrics_every_s: u32,
    /// How many spans may wait behind the request that is on its way; those beyond are dropped.
    pub spans_max: u32,
    /// A request may take so long.
    pub timeout_ms: u32,
    /// What this host is called there, as `service.name`.
    pub service_name: String,
    /// What else is said of this host: `"deployment.environment.name" = "hall-3"`.
    pub attributes: BTreeMap<String, String>,
}

impl Default for TelemetryTable {
    fn default() -> Self {
        Self {
            otlp: None,
            headers: BTreeMap::new(),
            trace_one_in: 1,
            metrics_every_s: 30,
            spans_max: 8192,
            timeout_ms: 10_000,
            service_name: "sandbar".to_owned(),
            attributes: BTreeMap::new(),
        }
    }
}

/// Checked, with what it names read.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) client: Client,
    pub(crate) traces: Url,
    pub(crate) metrics: Url,
    pub(crate) sampling: Sampling,
    /// `None` for never.
    pub(crate) metrics_every: Option<Duration>,
    pub(crate) spans_max: usize,
    /// Of the host, as it introduces itself.
    pub(crate) resource: Vec<(String, String)>,
}

impl TelemetryTable {
    /// Whether it works as far as that can be known without the collector. Errors name the setting.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.collector().map(drop)
    }

    /// `None` if nothing is to leave.
    pub(crate) fn collector(&self) -> Result<Option<Collector>, ConfigError> {
        for (setting, value) in [("spans_max", self.spans_max), ("timeout_ms", self.timeout_ms)] {
            if value == 0 {
                return Err(ConfigError::at(setting, "must be above 0"));
            }
        }
        let Some(otlp) = &self.otlp else { return Ok(None) };
        let base = base(otlp).map_err(|problem| ConfigError::at("otlp", problem))?;
        let under = |path: &str| {
            let path = format!("{}/v1/{path}", base.path().trim_end_matches('/'));
            let mut url = base.clone();
            url.set_path(&path);
            url
        };
        let every = u64::from(self.metrics_every_s);
        let own = [("service.name", &*self.service_name), ("service.version", env!("CARGO_PKG_VERSION"))];
        let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Ok(Some(Collector {
            client: self.client(&base)?,
            traces: under("traces"),
            metrics: under("metrics"),
            sampling: Sampling::one_in(self.trace_one_in),
            metrics_every: (every > 0).then(|| Duration::from_secs(every)),
            spans_max: self.spans_max as usize,
            resource: own.into_iter().chain(self.attributes.clone()).collect(),
        }))
    }

    fn client(&self, base: &Url) -> Result<Client, ConfigError> {
        // An error says that one is installed: any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        for (name, secret) in &self.headers {
            let setting = format!("headers.{name}");
            let problem = |text: &str| ConfigError::at(setting.as_str(), text);
            let name = HeaderName::try_from(name.as_str()).map_err(|_| problem("is not a header name"))?;
            let text = secret.resolve(&setting, |path| std::fs::read_to_string(path))?;
            let value = HeaderValue::try_from(text);
            let mut value = value.map_err(|_| problem("has a character that no header may have"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let mut client = Client::builder()
            .user_agent(concat!("sandbar/", env!("CARGO_PKG_VERSION")))
            .timeout(Duration::from_millis(self.timeout_ms.into()))
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(headers);
        if base.scheme() == "http" {
            // A system without any root certificates need not have them for this.
            client = client.tls_certs_only([]);
        }
        client.build().map_err(|error| ConfigError::at("otlp", error.to_string()))
    }
}

fn base(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" if url.query().is_none() => Ok(url),
        "http" | "https" => Err("must have no query".to_owned()),
        other => Err(format!("must begin with http:// or https://, not {other}:")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(settings: serde_json::Value) -> TelemetryTable {
        sandbar_reading::settings(settings).unwrap()
    }

    #[test]
    fn nothing_leaves_unless_it_is_said_where_to() {
        assert!(table(json!({})).collector().unwrap().is_none());
    }

    #[test]
    fn spans_and_metrics_go_below_the_given_address() {
        for (given, traces) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("https://a.example/otlp/x", "https://a.example/otlp/x/v1/traces"),
        ] {
            let collector = table(json!({ "otlp": given })).collector().unwrap().unwrap();
            assert_eq!(collector.traces.as_str(), traces);
        }
    }

    #[test]
    fn names_the_setting_that_cannot_work() {
        for (settings, at) in [
            (json!({ "otlp": "grpc://a" }), "otlp"),
            (json!({ "otlp": "127.0.0.1:4318" }), "otlp"),
            (json!({ "otlp": "http://a/?b" }), "otlp"),
            (json!({ "spans_max": 0 }), "spans_max"),
            (json!({ "timeout_ms": 0 }), "timeout_ms"),
            (json!({ "otlp": "http://a", "headers": { "a b": "c" } }), "headers.a b"),
            (json!({ "otlp": "http://a", "headers": { "a": "c\nd" } }), "headers.a"),
        ] {
            assert_eq!(table(settings.clone()).check().unwrap_err().setting, at, "{settings}");
        }
    }
}
