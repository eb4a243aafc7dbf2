//! Settings of a camera, and what is refused of them.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use sandbar_reading::{ConfigError, Secret, Topic};
use sandbar_tls::{ClientTls, Renewed};
use schemars::JsonSchema;
use serde::Deserialize;

use super::auth::Login;
use crate::pattern::Template;

/// Takes pictures with a camera on this machine (V4L2) or in the network (HTTP), every so often and when it is
/// commanded to. A reading is one JPEG, with the attributes `camera`, `width`, `height` and `trigger` (`interval` or
/// `command`).
///
/// The command `capture`, to the camera's device, takes a picture now; it counts as carried out once the picture is on
/// disk. What the camera gives as JPEG is passed on as it is; YUYV is made a JPEG here.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// A camera on this machine: `/dev/video0`, which is the default without a `url`. A name that stays the same is
    /// under `/dev/v4l/by-id/`.
    #[serde(default)]
    pub(super) path: Option<PathBuf>,
    /// A camera in the network, over HTTP or HTTPS. What it answers says what it is: a stream of pictures
    /// (`multipart/x-mixed-replace`), which is kept open, or one picture, which is asked for each time.
    #[serde(default)]
    pub(super) url: Option<String>,
    /// Who we are at the URL. The password is sent once the camera asks for it: by Digest (MD5, SHA-256) if it knows
    /// that, else by Basic, which anybody on the way can read without TLS.
    #[serde(default)]
    pub(super) user: Option<String>,
    /// The user's password. A file is read again when it changes, for the next connection.
    #[serde(default)]
    pub(super) password: Option<Secret>,
    /// With `https://`: whom to trust, if not those whom the system trusts. Its files are read again when they change,
    /// for the next connection.
    #[serde(default)]
    pub(super) tls: Option<ClientTls>,
    /// Milliseconds from one picture to the next, beginning at once. Without it pictures are taken on command only.
    #[serde(default)]
    pub(super) interval_ms: Option<NonZeroU64>,
    /// The camera's name: device of its readings, and whom commands are for. By default the path's last part, such as
    /// `video0`, or the host of the URL.
    #[serde(default)]
    pub(super) device: Option<String>,
    /// Topic of the readings, with `{device}`.
    #[serde(default = "default_topic")]
    pub(super) topic: String,
    /// Pixels of a line that a camera with a `path` is asked for. It takes the nearest that it has.
    #[serde(default = "default_width")]
    pub(super) width: u16,
    /// Lines that a camera with a `path` is asked for.
    #[serde(default = "default_height")]
    pub(super) height: u16,
    /// Of the JPEGs that are made here, 1 to 100.
    #[serde(default = "default_quality")]
    pub(super) quality: u8,
    /// A camera that gives no picture for so long is taken for lost, and connected to again.
    #[serde(default = "default_timeout_ms")]
    pub(super) timeout_ms: NonZeroU64,
}

fn default_topic() -> String {
    "cameras/{device}".to_owned()
}

const fn default_width() -> u16 {
    1280
}

const fn default_height() -> u16 {
    720
}

const fn default_quality() -> u8 {
    85
}

const fn default_timeout_ms() -> NonZeroU64 {
    NonZeroU64::new(10_000).expect("not 0")
}

const DEFAULT_PATH: &str = "/dev/video0";

/// The settings, checked.
pub(super) struct Plan {
    pub(super) place: Place,
    pub(super) interval: Option<Duration>,
    pub(super) device: Box<str>,
    pub(super) topic: Topic,
    pub(super) timeout: Duration,
}

/// Where the camera is.
pub(super) enum Place {
    Path(Local),
    Url(Box<Remote>),
}

#[derive(Clone)]
pub(super) struct Local {
    pub(super) path: PathBuf,
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) quality: u8,
}

pub(super) struct Remote {
    pub(super) url: Url,
    pub(super) access: Renewed<Access>,
}

/// Who we are, and whom we trust: what depends on files that settings name.
pub(super) struct Access {
    pub(super) login: Option<Login>,
    pub(super) tls: rustls::ClientConfig,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let place = place(config)?;
        let device: Box<str> = match &config.device {
            Some(device) => device.as_str().into(),
            None => place.default_device(),
        };
        if device.is_empty() {
            return Err(ConfigError::at("device", "must have at least one character"));
        }
        let topic = Template::parse(&config.topic, &["device".into()])
            .map_err(|error| ConfigError::at("topic", error.to_string()))?
            .fill(&[(&*device).into()]);
        Ok(Self {
            place,
            interval: config.interval_ms.map(|millis| Duration::from_millis(millis.get())),
            topic: topic.parse().map_err(|error| ConfigError::at("topic", format!("`{topic}`: {error}")))?,
            device,
            timeout: Duration::from_millis(config.timeout_ms.get()),
        })
    }
}

impl Place {
    fn default_device(&self) -> Box<str> {
        match self {
            Self::Path(local) => local.path.file_name().unwrap_or_default().to_string_lossy().into(),
            Self::Url(remote) => remote.url.host_str().unwrap_or_default().trim_matches(['[', ']']).into(),
        }
    }
}

fn place(config: &Config) -> Result<Place, ConfigError> {
    match (&config.path, &config.url) {
        (Some(_), Some(_)) => Err(ConfigError::at("url", "set either this or path")),
        (_, Some(url)) => remote(config, url).map(|remote| Place::Url(Box::new(remote))),
        (path, None) => local(config, path.clone().unwrap_or_else(|| DEFAULT_PATH.into())).map(Place::Path),
    }
}

fn local(config: &Config, path: PathBuf) -> Result<Local, ConfigError> {
    let of_url = [
        ("user", config.user.is_some()),
        ("password", config.password.is_some()),
        ("tls", config.tls.is_some()),
    ];
    if let Some((setting, _)) = of_url.iter().find(|(_, is_set)| *is_set) {
        return Err(ConfigError::at(*setting, "needs a url"));
    }
    if !(1..=100).contains(&config.quality) {
        return Err(ConfigError::at("quality", "must be 1 to 100"));
    }
    for (setting, pixels) in [("width", config.width), ("height", config.height)] {
        if pixels == 0 {
            return Err(ConfigError::at(setting, "must be above 0"));
        }
    }
    Ok(Local { path, width: config.width, height: config.height, quality: config.quality })
}

fn remote(config: &Config, text: &str) -> Result<Remote, ConfigError> {
    let url = Url::parse(text.trim()).map_err(|error| ConfigError::at("url", error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ConfigError::at("url", "say who we are with user and password, where nobody sees it"));
    }
    let is_secure = match (url.scheme(), &config.tls) {
        ("https", _) => true,
        ("http", None) => false,
        ("http", Some(_)) => return Err(ConfigError::at("tls", "needs a url that begins with https://")),
        (other, _) => {
            return Err(ConfigError::at("url", format!("must begin with http:// or https://, not {other}:")));
        }
    };
    let mut files = config.tls.as_ref().map(ClientTls::files).unwrap_or_default();
    files.extend(config.password.iter().filter_map(Secret::file));
    let config = config.clone();
    let access = Renewed::new(files, move || {
        let tls = if is_secure { trusting(config.tls.as_ref())? } else { trusting_nobody()? };
        Ok(Access { login: login(&config)?, tls })
    })?;
    Ok(Remote { url, access })
}

fn trusting(tls: Option<&ClientTls>) -> Result<rustls::ClientConfig, ConfigError> {
    match tls {
        Some(tls) => tls.config().map_err(|error| error.within("tls")),
        None => ClientTls::default().config().map_err(|error| ConfigError::at("url", error.problem)),
    }
}

/// Without TLS: a system without certificates need not have them for that.
fn trusting_nobody() -> Result<rustls::ClientConfig, ConfigError> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::at("url", error.to_string()))?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

fn login(config: &Config) -> Result<Option<Login>, ConfigError> {
    match (&config.user, &config.password) {
        (None, None) => Ok(None),
        (Some(user), Some(password)) if !user.contains(':') => {
            let password = password.resolve("password", |path| std::fs::read_to_string(path))?;
            Ok(Some(Login { user: user.clone(), password }))
        }
        (Some(_), Some(_)) => Err(ConfigError::at("user", "cannot have a colon")),
        (Some(_), None) => Err(ConfigError::at("password", "is needed with user")),
        (None, Some(_)) => Err(ConfigError::at("user", "is needed with password")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plan(table: Value) -> Result<Plan, ConfigError> {
        sandbar_reading::settings(table).and_then(|config: Config| Plan::new(&config))
    }

    #[test]
    fn a_camera_is_named_after_where_it_is() {
        let named = |table| {
            let plan = plan(table).unwrap();
            format!("{} {}", plan.device, plan.topic)
        };
        assert_eq!(named(json!({})), "video0 cameras/video0");
        assert_eq!(
            named(json!({ "path": "/dev/v4l/by-id/usb-Cam-index0" })),
            "usb-Cam-index0 cameras/usb-Cam-index0"
        );
        assert_eq!(named(json!({ "url": "http://[::1]:8080/cam.mjpg" })), "::1 cameras/::1");
        assert_eq!(named(json!({ "device": "gate", "topic": "yard/{device}/jpeg" })), "gate yard/gate/jpeg");
    }

    #[test]
    fn names_the_setting_that_cannot_work() {
        let setting = |table| plan(table).err().unwrap().setting;
        assert_eq!(setting(json!({ "path": "/dev/video0", "url": "http://cam/" })), "url");
        assert_eq!(setting(json!({ "url": "rtsp://cam/" })), "url");
        assert_eq!(setting(json!({ "url": "cam" })), "url");
        assert_eq!(setting(json!({ "url": "http://a:b@cam/" })), "url");
        assert_eq!(setting(json!({ "user": "a" })), "user");
        assert_eq!(setting(json!({ "url": "http://cam/", "user": "a" })), "password");
        assert_eq!(setting(json!({ "url": "http://cam/", "password": "b" })), "user");
        assert_eq!(setting(json!({ "url": "http://cam/", "user": "a:b", "password": "b" })), "user");
        assert_eq!(setting(json!({ "url": "http://cam/", "tls": {} })), "tls");
        assert_eq!(setting(json!({ "url": "https://cam/", "tls": { "ca_file": "/none" } })), "tls.ca_file");
        assert_eq!(setting(json!({ "interval_ms": 0 })), "interval_ms");
        assert_eq!(setting(json!({ "quality": 0 })), "quality");
        assert_eq!(setting(json!({ "height": 0 })), "height");
        assert_eq!(setting(json!({ "device": "" })), "device");
        assert_eq!(setting(json!({ "device": "a/#" })), "topic");
        assert_eq!(setting(json!({ "topic": "{camera}" })), "topic");
    }
}
