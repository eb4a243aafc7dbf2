//! Messages as e-mails, by SMTP (RFC 5321).

mod compose;
#[cfg(test)]
mod tests;

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{Error, response::Code};
use sandbar_reading::{ConfigError, Delivery, Secret};
use sandbar_tls::Renewed;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::timeout;

use crate::{Cause, DeliveryError, Progress, Sink};
use compose::Composer;

/// One connection a batch, one message after the other.
pub(crate) struct Email {
    host: String,
    port: u16,
    access: Renewed<Access>,
    hello: ClientId,
    timeout: Duration,
    composer: Composer,
}

/// What depends on files that settings name: certificates, and the password.
struct Access {
    tls: Option<(TlsMode, TlsParameters)>,
    credentials: Option<Credentials>,
}

/// Sends every message as an e-mail, to a mail server that passes it on. A 4xx answer is tried again later, a 5xx answer
/// makes the message a dead letter (but one that asks for a login, or refuses it, is tried again: a wrong password should
/// delay a week of alerts, not bury them). `Message-ID` is made of the delivery's id: the same at every attempt.
///
/// `from`, `to`, `subject`, `body`, `html` and `attachment` are templates: `{{ payload.celsius }}`; see
/// `docs/guides/alerts.md` for their fields.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The mail server.
    host: String,
    /// Its port. The default is 587, with `tls = "implicit"` 465, with `tls = "none"` 25.
    #[serde(default)]
    port: Option<u16>,
    /// How the connection is encrypted.
    #[serde(default)]
    tls: TlsMode,
    /// A PEM file with certificates to trust beside the system's. It is read again when it changes.
    #[serde(default)]
    ca_file: Option<PathBuf>,
    /// Whom to log in as. Needs `password`.
    #[serde(default)]
    user: Option<String>,
    /// The user's password: `{ env = "NAME" }` or `{ file = "/path" }`, which is read again when it changes.
    #[serde(default)]
    password: Option<Secret>,
    /// The name that this host calls itself to the server.
    #[serde(default)]
    hello: Option<String>,
    /// The sender: `Boiler room <alerts@example.com>`.
    from: String,
    /// The recipients; several in one text are separated by commas. They get a message together, or none gets it.
    to: Vec<String>,
    /// The subject line.
    #[serde(default = "default_subject")]
    subject: String,
    /// The text.
    #[serde(default = "default_body")]
    body: String,
    /// The same in HTML, shown in place of the text. Values are escaped in it.
    #[serde(default)]
    html: Option<String>,
    /// Attaches the payload under this file name: `{{ device }}.jpg`.
    #[serde(default)]
    attachment: Option<String>,
    /// Connecting, and each message, may take so long.
    #[serde(default = "default_timeout_ms")]
    timeout_ms: NonZeroU64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum TlsMode {
    /// By STARTTLS; a server that does not offer it gets nothing.
    #[default]
    Starttls,
    /// From the beginning.
    Implicit,
    /// Not at all. Only for a server on the same machine or network.
    None,
}

fn default_subject() -> String {
    "{{ topic }}".to_owned()
}

fn default_body() -> String {
    "{{ text }}".to_owned()
}

const fn default_timeout_ms() -> NonZeroU64 {
    NonZeroU64::new(60_000).expect("not 0")
}

impl Sink for Email {
    const NAME: &'static str = "email";
    const EXAMPLE: &'static str = r#"host = "smtp.example.com"
user = "alerts@example.com"
password = "change-me"
from = "Boiler room <alerts@example.com>"
to = ["operator@example.com"]
subject = "{{ device | default('a device') }}: {{ topic }}"
body = "{{ time }}: {{ text }}"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        if config.host.is_empty() || config.host.contains(char::is_whitespace) {
            return Err(ConfigError::at("host", "must be a server's name, such as smtp.example.com"));
        }
        let hello = match config.hello.as_deref() {
            None => ClientId::default(),
            Some(name)
                if !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control()) =>
            {
                ClientId::Domain(name.to_owned())
            }
            Some(_) => return Err(ConfigError::at("hello", "must be a host's name")),
        };
        let port = config.port.unwrap_or(match config.tls {
            TlsMode::Starttls => 587,
            TlsMode::Implicit => 465,
            TlsMode::None => 25,
        });
        let host = config.host.clone();
        let timeout = Duration::from_millis(config.timeout_ms.get());
        let composer = Composer::new(&config)?;
        let secrets = config.password.iter().filter_map(Secret::file);
        let files: Vec<PathBuf> = secrets.chain(config.ca_file.clone()).collect();
        let access = Renewed::new(files, move || Access::new(&config))?;
        Ok(Self { host, port, access, hello, timeout, composer })
    }

    async fn deliver(&self, batch: &[Delivery], progress: &Progress) -> Result<(), DeliveryError> {
        if batch.is_empty() {
            return Ok(());
        }
        let retry = |delivered, cause| DeliveryError::Retry { delivered, after: None, cause };
        let mut connection = self.connect().await.map_err(|cause| retry(0, cause))?;
        for (index, delivery) in batch.iter().enumerate() {
            let (envelope, bytes) = match self.composer.compose(delivery) {
                Ok(composed) => composed,
                Err(cause) => {
                    self.quit(connection).await;
                    return Err(DeliveryError::Reject { rejected: index, cause });
                }
            };
            match timeout(self.timeout, connection.send(&envelope, &bytes)).await {
                Ok(Ok(_)) => progress.reached(index + 1),
                Ok(Err(error)) if is_final(&error) => {
                    return Err(DeliveryError::Reject {
                        rejected: index,
                        cause: self.cause("sending", &error),
                    });
                }
                Ok(Err(error)) => return Err(retry(index, self.cause("sending", &error))),
                Err(_) => return Err(retry(index, self.too_slow("sending"))),
            }
        }
        self.quit(connection).await;
        Ok(())
    }
}

impl Access {
    fn new(config: &Config) -> Result<Self, ConfigError> {
        let tls = match config.tls {
            TlsMode::None => None,
            mode => Some((mode, tls_parameters(config)?)),
        };
        Ok(Self { tls, credentials: credentials(config)? })
    }
}

impl Email {
    /// Encrypted and logged in, as far as was asked for.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Cause> {
        let access = self.access.current();
        let Access { tls, credentials } = &*access;
        let connect = async {
            let address = (self.host.as_str(), self.port);
            let implicit = tls.as_ref().filter(|(mode, _)| *mode == TlsMode::Implicit);
            let implicit = implicit.map(|(_, parameters)| parameters.clone());
            let connecting =
                AsyncSmtpConnection::connect_tokio1(address, None, &self.hello, implicit, None).await;
            let mut connection = connecting.map_err(|error| self.cause("connecting", &error))?;
            if let Some((TlsMode::Starttls, parameters)) = tls {
                let secured = connection.starttls(parameters.clone(), &self.hello).await;
                secured.map_err(|error| self.cause("encrypting", &error))?;
            }
            if let Some(credentials) = credentials {
                let logged_in = connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials).await;
                logged_in.map_err(|error| self.cause("logging in", &error))?;
            }
            Ok(connection)
        };
        match timeout(self.timeout, connect).await {
            Ok(connected) => connected,
            Err(_) => Err(self.too_slow("connecting")),
        }
    }

    /// The messages are taken; whether the server hears the farewell does not matter.
    async fn quit(&self, mut connection: AsyncSmtpConnection) {
        const FAREWELL: Duration = Duration::from_secs(2);
        drop(timeout(FAREWELL, connection.quit()).await);
    }

    fn cause(&self, doing: &str, error: &Error) -> Cause {
        Cause::of(&format!("{doing}, {}:{}", self.host, self.port), error)
    }

    fn too_slow(&self, doing: &str) -> Cause {
        let (host, port, limit) = (&self.host, self.port, self.timeout.as_millis());
        Cause::new(format!("{doing}, {host}:{port}: no answer within {limit} ms"))
    }
}

/// Whether the same message will never be taken. An answer about the login is not about the message.
fn is_final(error: &Error) -> bool {
    let about_login = |code: Code| [530, 534, 535, 538].contains(&u16::from(code));
    error.is_client() || error.is_permanent() && !error.status().is_some_and(about_login)
}

fn credentials(config: &Config) -> Result<Option<Credentials>, ConfigError> {
    match (&config.user, &config.password) {
        (None, None) => Ok(None),
        (Some(user), Some(password)) => {
            let password = password.resolve("password", |path| std::fs::read_to_string(path))?;
            Ok(Some(Credentials::new(user.clone(), password)))
        }
        (Some(_), None) => Err(ConfigError::at("password", "is needed with `user`")),
        (None, Some(_)) => Err(ConfigError::at("user", "is needed with `password`")),
    }
}

fn tls_parameters(config: &Config) -> Result<TlsParameters, ConfigError> {
    let mut builder = TlsParameters::builder(config.host.clone());
    if let Some(path) = &config.ca_file {
        let problem = |text: String| ConfigError::at("ca_file", format!("{}: {text}", path.display()));
        let pem = std::fs::read(path).map_err(|error| problem(error.to_string()))?;
        let holds_one = pem.windows(11).any(|window| window == b"-----BEGIN ");
        let certificate = Certificate::from_pem(&pem).ok().filter(|_| holds_one);
        builder = builder
            .add_root_certificate(certificate.ok_or_else(|| problem("holds no PEM certificate".to_owned()))?);
    }
    builder
        .build_rustls()
        .map_err(|error| ConfigError::at("tls", Cause::of("preparing TLS", &error).to_string()))
}
