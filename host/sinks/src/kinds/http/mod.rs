//! Messages as HTTP requests (RFC 9110).

mod answer;
mod request;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, StatusCode, Url};
use sandbar_reading::{Clock, ConfigError, Delivery, Secret, SystemClock};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Cause, DeliveryError, Sink, tls};
use answer::{Answer, decide};
use request::Request;

/// One request a message, one after the other, over connections that are kept open.
#[derive(Debug)]
pub(crate) struct Http {
    client: Client,
    method: reqwest::Method,
    url: Url,
    headers: http::HeaderMap,
    body: Body,
    reject: Vec<StatusCode>,
}

/// Sends every message as a request. A 2xx answer takes it; an answer listed under `reject` makes it a dead
/// letter; anything else, a lost connection too, is tried again later, not before the time that a
/// `Retry-After` names (24 hours at most). Every request carries `Idempotency-Key`, the same at every attempt.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where to: `https://example.com/readings`. A redirect (307, 308) is followed on the same host only.
    #[serde(default)]
    url: Option<String>,
    /// In place of `url`, where the address itself is a secret, as that of a Slack webhook:
    /// `{ env = "NAME" }` or `{ file = "/path" }`. Only its host is ever shown.
    #[serde(default)]
    secret_url: Option<Secret>,
    /// `POST`, `PUT` or `PATCH`.
    #[serde(default)]
    method: Method,
    /// Further headers. Values may be secrets by reference: `Authorization = { file = "/run/secrets/token" }`.
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    /// An attempt may take so long, from connecting to the end of the answer.
    #[serde(default = "default_timeout_ms")]
    timeout_ms: NonZeroU64,
    /// What a request consists of: `payload`, `json` or `batch`.
    #[serde(default)]
    body: Body,
    /// Status codes that refuse a message for good. Not 401, 403 and 404 by default: a wrong token or address
    /// should delay a week of messages, not bury them.
    #[serde(default = "default_reject")]
    reject: Vec<u16>,
    /// A PEM file with certificates to trust beside the system's.
    #[serde(default)]
    ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Method {
    #[default]
    Post,
    Put,
    Patch,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Body {
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
}

const fn default_timeout_ms() -> NonZeroU64 {
    NonZeroU64::new(10_000).expect("not 0")
}

fn default_reject() -> Vec<u16> {
    vec![400, 413, 415, 422]
}

impl Sink for Http {
    const NAME: &'static str = "http";
    const EXAMPLE: &'static str = r#"url = "https://example.com/readings"
method = "POST"
headers = { Authorization = "Bearer change-me" }
timeout_ms = 10000
body = "json"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let url = address(&config)?;
        Ok(Self {
            client: client(&config, &url)?,
            method: match config.method {
                Method::Post => reqwest::Method::POST,
                Method::Put => reqwest::Method::PUT,
                Method::Patch => reqwest::Method::PATCH,
            },
            url,
            headers: request::configured(&config.headers)?,
            body: config.body,
            reject: config.reject.into_iter().enumerate().map(error_status).collect::<Result<_, _>>()?,
        })
    }

    async fn deliver(&self, batch: &[Delivery]) -> Result<(), DeliveryError> {
        match self.body {
            Body::Payload => self.one_by_one(batch, request::of_payload).await,
            Body::Json => self.one_by_one(batch, request::of_json).await,
            Body::Batch => self.together(batch).await,
        }
    }
}

impl Http {
    async fn one_by_one(
        &self,
        batch: &[Delivery],
        request: fn(&Delivery) -> Request,
    ) -> Result<(), DeliveryError> {
        for (index, delivery) in batch.iter().enumerate() {
            match self.send(request(delivery)).await {
                Answer::Taken => {}
                Answer::Later { after, cause } => {
                    return Err(DeliveryError::Retry { delivered: index, after, cause });
                }
                Answer::Never { cause } => return Err(DeliveryError::Reject { rejected: index, cause }),
            }
        }
        Ok(())
    }

    /// Everything in one request; of one that is refused, the first half, and so on.
    async fn together(&self, batch: &[Delivery]) -> Result<(), DeliveryError> {
        let (mut delivered, mut size) = (0, batch.len());
        while delivered < batch.len() {
            let part = &batch[delivered..(delivered + size).min(batch.len())];
            match self.send(request::of_batch(part)).await {
                Answer::Taken => delivered += part.len(),
                Answer::Later { after, cause } => {
                    return Err(DeliveryError::Retry { delivered, after, cause });
                }
                Answer::Never { cause } if part.len() == 1 => {
                    return Err(DeliveryError::Reject { rejected: delivered, cause });
                }
                Answer::Never { .. } => size = part.len() / 2,
            }
        }
        Ok(())
    }

    async fn send(&self, request: Request) -> Answer {
        let mut headers = request.headers;
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        let sent = self
            .client
            .request(self.method.clone(), self.url.clone())
            .headers(headers)
            .body(request.body)
            .send();
        match sent.await {
            Ok(response) => {
                let decided = decide(response.status(), response.headers(), &self.reject, SystemClock.now());
                decided.explained(&self.whom(), response).await
            }
            // The address may be a secret.
            Err(error) => Answer::Later { after: None, cause: Cause::of(&self.whom(), &error.without_url()) },
        }
    }

    /// `POST to https://example.com`: the path and query may be secrets.
    fn whom(&self) -> String {
        format!("{} to {}", self.method, self.url.origin().ascii_serialization())
    }
}

fn address(config: &Config) -> Result<Url, ConfigError> {
    let (setting, text) = match (&config.url, &config.secret_url) {
        (Some(url), None) => ("url", url.clone()),
        (None, Some(secret)) => ("secret_url", read_secret(secret, "secret_url")?),
        _ => return Err(ConfigError::at("url", "set either this or secret_url")),
    };
    let url = Url::parse(&text).map_err(|error| ConfigError::at(setting, error.to_string()))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(ConfigError::at(setting, format!("must begin with http:// or https://, not {other}:"))),
    }
}

fn client(config: &Config, url: &Url) -> Result<Client, ConfigError> {
    tls::install_provider();
    let mut client = Client::builder()
        .user_agent(concat!("sandbar/", env!("CARGO_PKG_VERSION")))
        .timeout(std::time::Duration::from_millis(config.timeout_ms.get()))
        .redirect(Policy::custom(same_host_only));
    if url.scheme() == "http" {
        // A system without any root certificates need not have them for this.
        client = client.tls_certs_only([]);
    }
    if let Some(path) = &config.ca_file {
        client = client.tls_certs_merge(tls::read_certificates("ca_file", path)?);
    }
    client.build().map_err(|error| ConfigError::at("url", Cause::of("preparing TLS", &error).to_string()))
}

/// A redirect that would turn the request into a GET (301 to 303) delivers nothing, and one to another host
/// was not configured: both are left as the answer.
fn same_host_only(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    const FOLLOWED_MAX: usize = 5;
    let keeps_method = matches!(attempt.status().as_u16(), 307 | 308);
    let same_host = attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
    match keeps_method && same_host && attempt.previous().len() <= FOLLOWED_MAX {
        true => attempt.follow(),
        false => attempt.stop(),
    }
}

fn error_status((index, code): (usize, u16)) -> Result<StatusCode, ConfigError> {
    StatusCode::from_u16(code)
        .ok()
        .filter(|status| status.is_client_error() || status.is_server_error())
        .ok_or_else(|| ConfigError::at(format!("reject[{index}]"), "must be a status from 400 to 599"))
}

fn read_secret(secret: &Secret, setting: &str) -> Result<String, ConfigError> {
    secret.resolve(setting, |path| std::fs::read_to_string(path))
}
