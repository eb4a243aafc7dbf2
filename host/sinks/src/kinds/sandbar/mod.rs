//! Messages to another Sandbar host, and commands from it.

mod link;
mod offer;
#[cfg(test)]
mod tests;

use std::num::{NonZeroU16, NonZeroU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use sandbar_reading::{ConfigError, Delivery, Secret, relay};
use sandbar_tls::{ClientTls, Renewed};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use self::link::Keeper;
use self::offer::Offer;
use crate::kinds::websocket::socket::Far;
use crate::{Cause, DeliveryError, OwnHost, Progress, Sink};

/// Sends every message to another host's `sandbar` ingress: boxes on many sites feed one central host. A message is
/// delivered once it is on that host's disk, and it arrives there once, whatever is lost or killed on the way. It carries
/// topic, device, content type, attributes and payload as they are, and the attributes `origin.reading` and `origin.time`.
///
/// The connection is kept open also while there is nothing to send: commands that the central host has for devices that
/// messages told of come down over it, are carried out by this host, and what became of them is said.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The central host's ingress: `wss://central.example:7878`; its certificate and name are verified. `ws:` only to this
    /// machine, or with `plaintext`.
    url: String,
    /// What this host is known by there: a text, or where one is. A file is read again when it changes, for the next
    /// connection.
    token: Secret,
    /// So many messages may be on their way at once.
    #[serde(default = "default_window")]
    window: NonZeroU16,
    /// Connecting may take so long, and waiting for the first answer to what is on its way.
    #[serde(default = "default_timeout_ms")]
    timeout_ms: NonZeroU64,
    /// Allows `ws:` over a network that is trusted: anybody on it can read the token.
    #[serde(default)]
    plaintext: bool,
    /// Whom to trust with `wss:`.
    #[serde(default)]
    tls: Option<ClientTls>,
}

const fn default_window() -> NonZeroU16 {
    NonZeroU16::new(256).expect("not 0")
}

const fn default_timeout_ms() -> NonZeroU64 {
    NonZeroU64::new(30_000).expect("not 0")
}

/// More would be more than the other side remembers.
const WINDOW_MAX: u16 = 1024;

pub(crate) struct Sandbar {
    plan: Arc<Plan>,
    own: Mutex<Option<Arc<dyn OwnHost>>>,
    /// What keeps the link; started when there is a runtime.
    keeper: OnceLock<mpsc::Sender<Offer>>,
}

/// The settings, checked.
struct Plan {
    far: Far,
    window: usize,
    timeout: Duration,
}

impl Sink for Sandbar {
    const NAME: &'static str = "sandbar";
    const EXAMPLE: &'static str = r#"url = "wss://central.example:7878"
token = "change-me"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let token = config.token;
        let headers = Renewed::new(token.file(), move || bearer(&token))?;
        let far = Far::new(&config.url, headers, Some(relay::SUB_PROTOCOL), config.tls.as_ref())?;
        if config.url.starts_with("ws:") && !config.plaintext && !is_loopback(far.whom()) {
            let problem = "would show the token to everybody on the way: use wss:, or set `plaintext`";
            return Err(ConfigError::at("url", problem));
        }
        if config.window.get() > WINDOW_MAX {
            return Err(ConfigError::at("window", format!("must be {WINDOW_MAX} at most")));
        }
        let timeout = Duration::from_millis(config.timeout_ms.get());
        let plan = Plan { far, window: config.window.get().into(), timeout };
        Ok(Self { plan: Arc::new(plan), own: Mutex::default(), keeper: OnceLock::new() })
    }

    /// From now on commands come down.
    fn connect(&self, own: &Arc<dyn OwnHost>) {
        *self.own.lock() = Some(Arc::clone(own));
        if tokio::runtime::Handle::try_current().is_ok() {
            self.keeper();
        }
    }

    async fn deliver(&self, batch: &[Delivery], _: &Progress) -> Result<(), DeliveryError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (done, result) = oneshot::channel();
        let gone =
            || DeliveryError::Retry { delivered: 0, after: None, cause: Cause::new("the link has ended") };
        let offer = Offer::new(batch, done);
        self.keeper().send(offer).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }
}

impl Sandbar {
    fn keeper(&self) -> &mpsc::Sender<Offer> {
        self.keeper.get_or_init(|| {
            let (offers, taken) = mpsc::channel(1);
            let keeper = Keeper::new(Arc::clone(&self.plan), self.own.lock().clone());
            tokio::spawn(keeper.run(taken));
            offers
        })
    }
}

fn bearer(token: &Secret) -> Result<HeaderMap, ConfigError> {
    let token = token.resolve("token", |path| std::fs::read_to_string(path))?;
    let bearer = HeaderValue::try_from(format!("Bearer {token}"));
    let mut bearer =
        bearer.map_err(|_| ConfigError::at("token", "must be of letters that a header takes"))?;
    bearer.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
