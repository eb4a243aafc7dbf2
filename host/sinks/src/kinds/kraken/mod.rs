//! Messages as calls of an existing Kraken Broker.

mod call;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU64};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use http::Uri;
use sandbar_reading::{ConfigError, Delivery};
use sandbar_tls::Renewed;
use schemars::JsonSchema;
use serde::Deserialize;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

use crate::{Cause, DeliveryError, OwnHost, Progress, Sink, tls};
use call::{Calls, MESSAGE_MAX};
use proto::KrakenResponse;
use proto::kraken_service_client::KrakenServiceClient;

/// Made from `host/proto/kraken.proto`.
mod proto {
    #![allow(unreachable_pub, unused_qualifications, clippy::all, reason = "generated")]
    tonic::include_proto!("kraken");
}

/// One HTTP/2 connection, opened when it is needed, and again when it broke.
pub(crate) struct Kraken {
    far: Renewed<Far>,
    calls: Calls,
    reply: Reply,
    reject: Vec<Code>,
    concurrency: usize,
    own: OnceLock<Arc<dyn OwnHost>>,
}

/// What depends on the certificates.
struct Far {
    endpoint: Endpoint,
    /// Made by the first call, since that is when a runtime is there.
    client: OnceLock<KrakenServiceClient<Channel>>,
}

/// Calls an existing Kraken Broker with each message, as a Kraken Collector would. Its answer goes to the sender
/// of the reading, if the route says `reply = "NAME"` with this sink's name, and the answer is meant for it (see
/// `reply`).
///
/// A call has the message's id as `idempotency-key` in its gRPC metadata, the same at every attempt. A broker that
/// is down delays messages; one that answers with a code listed under `reject` makes them dead letters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The broker: `http://broker:50051`, or `https://…`, which verifies the server's certificate and name.
    url: String,
    /// What the broker's handlers see as the collector's name: a template. It decides which handlers take it.
    #[serde(default = "default_collector")]
    collector: String,
    /// What they see as metadata, beside what a reading of a Kraken Collector had: templates by key.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    /// Which answers are replies: `collector`, `response_type`, `always` or `never`.
    #[serde(default)]
    reply: Reply,
    /// gRPC codes that refuse a message for good. Brokers answer `INTERNAL` if no handler takes a message, and
    /// if one fails: add it if messages that nobody takes should not be tried again.
    #[serde(default = "default_reject")]
    reject: Vec<String>,
    /// Calls at once. With more than 1 the broker may see messages in another order.
    #[serde(default = "default_concurrency")]
    concurrency: NonZeroU16,
    /// A call may take so long.
    #[serde(default = "default_timeout_ms")]
    timeout_ms: NonZeroU64,
    /// A PEM file with certificates to trust beside the system's. It is read again when it changes.
    #[serde(default)]
    ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Reply {
    /// With the collector's own name as their collector's name, as WebSocket and BraveJIG collectors have it.
    #[default]
    Collector,
    /// With the collector's name as `response_type` in their metadata, as TCP collectors have it.
    ResponseType,
    /// All that are not empty.
    Always,
    Never,
}

fn default_collector() -> String {
    "{{ route }}".to_owned()
}

fn default_reject() -> Vec<String> {
    ["INVALID_ARGUMENT", "OUT_OF_RANGE"].map(str::to_owned).into()
}

const fn default_concurrency() -> NonZeroU16 {
    NonZeroU16::new(1).expect("not 0")
}

const fn default_timeout_ms() -> NonZeroU64 {
    NonZeroU64::new(30_000).expect("not 0")
}

impl Sink for Kraken {
    const NAME: &'static str = "kraken";
    const EXAMPLE: &'static str = r#"url = "http://127.0.0.1:50051"
collector = "webhook"
reply = "never"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        tls::install_provider();
        Ok(Self {
            calls: Calls::new(&config.collector, &config.metadata)?,
            reply: config.reply,
            reject: config.reject.iter().enumerate().map(code).collect::<Result<_, _>>()?,
            concurrency: config.concurrency.get().into(),
            far: Renewed::new(config.ca_file.clone(), move || {
                endpoint(&config).map(|endpoint| Far { endpoint, client: OnceLock::new() })
            })?,
            own: OnceLock::new(),
        })
    }

    fn connect(&self, own: &Arc<dyn OwnHost>) {
        // The same host every time.
        let _ = self.own.set(Arc::clone(own));
    }

    async fn deliver(&self, batch: &[Delivery], progress: &Progress) -> Result<(), DeliveryError> {
        let far = self.far.current();
        let calls: Vec<BoxFuture<'_, _>> =
            batch.iter().map(|delivery| self.call(&far, delivery).boxed()).collect();
        let mut answers = futures::stream::iter(calls).buffered(self.concurrency).enumerate();
        while let Some((index, answer)) = answers.next().await {
            match answer {
                Ok(()) => progress.reached(index + 1),
                Err(Failed::Never(cause)) => return Err(DeliveryError::Reject { rejected: index, cause }),
                Err(Failed::Later(cause)) => {
                    return Err(DeliveryError::Retry { delivered: index, after: None, cause });
                }
            }
        }
        Ok(())
    }
}

enum Failed {
    Never(Cause),
    Later(Cause),
}

impl Kraken {
    async fn call(&self, far: &Far, delivery: &Delivery) -> Result<(), Failed> {
        let (collector, request) = self.calls.request(delivery).map_err(Failed::Never)?;
        // The channel connects by itself, and does again after it was lost.
        let client = far.client.get_or_init(|| {
            KrakenServiceClient::new(far.endpoint.connect_lazy())
                .max_decoding_message_size(MESSAGE_MAX)
                .max_encoding_message_size(usize::MAX)
        });
        let answer = client.clone().process_kraken_request(request).await;
        let answer = answer.map_err(|status| self.failed(far, &status))?.into_inner();
        if is_reply(self.reply, &answer, &collector)
            && let (Some(own), Some(message)) = (self.own.get(), call::reply(answer))
        {
            own.reply(delivery, message);
        }
        Ok(())
    }

    fn failed(&self, far: &Far, status: &Status) -> Failed {
        let whom = far.endpoint.uri();
        let text = format!("{whom}: {:?}: {}", status.code(), status.message());
        let cause = match std::error::Error::source(status) {
            Some(source) => Cause::of(&text, source),
            None => Cause::new(text),
        };
        match self.reject.contains(&status.code()) {
            true => Failed::Never(cause),
            false => Failed::Later(cause),
        }
    }
}

fn is_reply(which: Reply, answer: &KrakenResponse, collector: &str) -> bool {
    match which {
        Reply::Collector => answer.collector_name == collector,
        Reply::ResponseType => call::response_type(answer).as_deref() == Some(collector),
        Reply::Always => !answer.payload.is_empty(),
        Reply::Never => false,
    }
}

fn endpoint(config: &Config) -> Result<Endpoint, ConfigError> {
    let refused = |problem: String| ConfigError::at("url", problem);
    let url: Uri = config.url.parse().map_err(|error: http::uri::InvalidUri| refused(error.to_string()))?;
    let is_https = match url.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(refused("must begin with http:// or https://".to_owned())),
    };
    let timeout = Duration::from_millis(config.timeout_ms.get());
    let endpoint = Endpoint::from(url)
        .connect_timeout(timeout)
        .timeout(timeout)
        .http2_keep_alive_interval(Duration::from_secs(60))
        .tcp_nodelay(true);
    if !is_https {
        return match config.ca_file {
            Some(_) => Err(ConfigError::at("ca_file", "is for a url that begins with https://")),
            None => Ok(endpoint),
        };
    }
    let mut encryption = ClientTlsConfig::new().with_native_roots();
    if let Some(path) = &config.ca_file {
        encryption = encryption.ca_certificate(Certificate::from_pem(tls::read_pem("ca_file", path)?));
    }
    endpoint.tls_config(encryption).map_err(|error| refused(Cause::of("preparing TLS", &error).to_string()))
}

/// By its name in the gRPC specification.
fn code((index, name): (usize, &String)) -> Result<Code, ConfigError> {
    let spelled = |code: &Code| {
        let camel = format!("{code:?}");
        let mut spelled = String::new();
        for (at, c) in camel.char_indices() {
            if at > 0 && c.is_ascii_uppercase() {
                spelled.push('_');
            }
            spelled.push(c.to_ascii_uppercase());
        }
        spelled
    };
    (1..=16)
        .map(Code::from_i32)
        .find(|code| spelled(code) == *name)
        .ok_or_else(|| ConfigError::at(format!("reject[{index}]"), "must be a gRPC code, such as INTERNAL"))
}
