//! The settings of an e-mail ingress, checked.

use std::collections::BTreeMap;
use std::time::Duration;

use sandbar_reading::{ConfigError, Secret};
use sha2::{Digest, Sha256};

use super::config::{Config, TlsMode};
use super::decode::Form;

/// What a conversation goes by.
pub(super) struct Rules {
    pub(super) domain: String,
    pub(super) recipients: Addresses,
    pub(super) senders: Addresses,
    pub(super) users: Users,
    pub(super) auth_required: bool,
    pub(super) auth_without_tls: bool,
    /// STARTTLS is offered.
    pub(super) starttls: bool,
    pub(super) tls_required: bool,
    pub(super) message_max: usize,
    pub(super) recipients_max: usize,
    pub(super) command_timeout: Duration,
    pub(super) data_timeout: Duration,
    pub(super) message_timeout: Duration,
    pub(super) reply_timeout: Duration,
    pub(super) form: Form,
}

impl Rules {
    /// The error names the setting.
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        for (setting, value) in [
            ("message_max", config.message_max as u64),
            ("messages_max", config.messages_max as u64),
            ("recipients_max", config.recipients_max as u64),
            ("connections_max", config.connections_max as u64),
            ("command_timeout_ms", config.command_timeout_ms),
            ("data_timeout_ms", config.data_timeout_ms),
            ("message_timeout_ms", config.message_timeout_ms),
            ("reply_timeout_ms", config.reply_timeout_ms),
        ] {
            if value == 0 {
                return Err(ConfigError::at(setting, "must be above 0"));
            }
        }
        let is_domain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '[' | ']' | ':');
        if config.domain.is_empty() || config.domain.len() > 255 || !config.domain.chars().all(is_domain) {
            return Err(ConfigError::at("domain", "must be a host's name, such as mail.example.com"));
        }
        let auth_required = config.auth_required.unwrap_or(!config.users.is_empty());
        if auth_required && config.users.is_empty() {
            return Err(ConfigError::at("users", "without any, nobody can log in, as auth_required asks"));
        }
        if !config.users.is_empty() && config.tls.is_none() && !config.auth_without_tls {
            let problem = "passwords would travel in clear text: set `tls`, or `auth_without_tls = true`";
            return Err(ConfigError::at("users", problem));
        }
        if config.tls.is_none() && (config.tls_required || config.tls_mode == TlsMode::Implicit) {
            return Err(ConfigError::at("tls", "is needed: a certificate_file and a key_file"));
        }
        Ok(Self {
            domain: config.domain.clone(),
            recipients: Addresses::new("recipients", &config.recipients)?,
            senders: Addresses::new("allowed_senders", &config.allowed_senders)?,
            users: Users::new(&config.users)?,
            auth_required,
            auth_without_tls: config.auth_without_tls,
            starttls: config.tls.is_some() && config.tls_mode == TlsMode::Starttls,
            tls_required: config.tls_required,
            message_max: config.message_max,
            recipients_max: config.recipients_max,
            command_timeout: Duration::from_millis(config.command_timeout_ms),
            data_timeout: Duration::from_millis(config.data_timeout_ms),
            message_timeout: Duration::from_millis(config.message_timeout_ms),
            reply_timeout: Duration::from_millis(config.reply_timeout_ms),
            form: Form::new(config)?,
        })
    }
}

/// Addresses and domains; none means all.
#[derive(Debug, Default)]
pub(super) struct Addresses(Vec<String>);

impl Addresses {
    fn new(setting: &str, listed: &[String]) -> Result<Self, ConfigError> {
        let mut all = Vec::with_capacity(listed.len());
        for (index, one) in listed.iter().enumerate() {
            // `@example.com` is how some write a domain.
            let one = one.trim().strip_prefix('@').unwrap_or(one.trim()).to_lowercase();
            if one.is_empty() || one.ends_with('@') || one.contains(char::is_whitespace) {
                let problem = "must be an address or a domain, such as scanner@example.com or example.com";
                return Err(ConfigError::at(format!("{setting}[{index}]"), problem));
            }
            all.push(one);
        }
        Ok(Self(all))
    }

    /// Case does not matter, not even before the `@`: no user has two that differ in it.
    pub(super) fn include(&self, address: &str) -> bool {
        let address = address.to_lowercase();
        let domain = address.rsplit_once('@').map(|(_, domain)| domain);
        self.0.is_empty() || self.0.iter().any(|one| *one == address || Some(one.as_str()) == domain)
    }
}

/// Who may log in. Passwords are kept as digests: comparing those tells nothing by how long it takes.
pub(super) struct Users(BTreeMap<String, [u8; 32]>);

impl Users {
    fn new(configured: &BTreeMap<String, Secret>) -> Result<Self, ConfigError> {
        let mut users = BTreeMap::new();
        for (name, secret) in configured {
            let password = secret.resolve(&format!("users.{name}"), |path| std::fs::read_to_string(path))?;
            users.insert(name.clone(), digest(password.as_bytes()));
        }
        Ok(Self(users))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn admit(&self, name: &str, password: &[u8]) -> bool {
        let right = self.0.get(name).copied();
        let (given, wanted) = (digest(password), right.unwrap_or([0; 32]));
        let differences = given.iter().zip(wanted).fold(0, |sum, (a, b)| sum | (a ^ b));
        right.is_some() && differences == 0
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rules(more: Value) -> Result<Rules, ConfigError> {
        let config: Config = sandbar_reading::settings(more)?;
        Rules::new(&config)
    }

    #[test]
    fn lists_hold_addresses_and_domains() {
        let listed =
            rules(json!({ "allowed_senders": ["Scanner@Example.com", "@lab.example", "plant.example"] }))
                .unwrap();
        let senders = listed.senders;
        for address in
            ["scanner@example.com", "SCANNER@EXAMPLE.COM", "any@lab.example", "\"a@b\"@plant.example"]
        {
            assert!(senders.include(address), "{address}");
        }
        for address in
            ["other@example.com", "", "example.com", "lab.example@evil.example", "a@sub.lab.example"]
        {
            assert!(!senders.include(address), "{address}");
        }
        assert!(listed.recipients.include("") && listed.recipients.include("anyone@anywhere"));
    }

    #[test]
    fn only_the_right_password_of_the_right_user_is_admitted() {
        let users =
            rules(json!({ "users": { "a": "one", "b": "two" }, "auth_without_tls": true })).unwrap().users;
        assert!(users.admit("a", b"one") && users.admit("b", b"two"));
        for (name, password) in [("a", "two"), ("a", ""), ("c", ""), ("", ""), ("A", "one"), ("c", "\0")] {
            assert!(!users.admit(name, password.as_bytes()), "{name} {password}");
        }
    }

    #[test]
    fn names_the_setting_that_cannot_work() {
        for (settings, at) in [
            (json!({ "domain": "" }), "domain"),
            (json!({ "domain": "a b" }), "domain"),
            (json!({ "auth_required": true }), "users"),
            (json!({ "users": { "a": "b" } }), "users"),
            (json!({ "users": { "a": "" }, "auth_without_tls": true }), "users.a"),
            (json!({ "tls_required": true }), "tls"),
            (json!({ "tls_mode": "implicit" }), "tls"),
            (json!({ "allowed_senders": ["a", "b@"] }), "allowed_senders[1]"),
            (json!({ "recipients": [""] }), "recipients[0]"),
            (json!({ "message_max": 0 }), "message_max"),
            (json!({ "reply_timeout_ms": 0 }), "reply_timeout_ms"),
            (json!({ "topic": "a/{who}" }), "topic"),
            (json!({ "topic": "a/#" }), "topic"),
            (json!({ "device": "{header}" }), "device_header"),
            (json!({ "device_header": "a b" }), "device_header"),
            (json!({ "headers": ["X-A", "x\n"] }), "headers[1]"),
            (json!({ "payload": "xml" }), "payload"),
        ] {
            assert_eq!(
                rules(settings.clone()).err().map(|error| error.setting).as_deref(),
                Some(at),
                "{settings}"
            );
        }
        assert!(rules(json!({})).is_ok());
    }
}
