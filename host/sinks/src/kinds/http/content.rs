//! What requests consist of, as it was configured. Pure.

use sandbar_reading::{ConfigError, ContentType, Delivery};
use serde_json::{Value, json};

use super::config::{Body, Config, Preset};
use super::influx::Influx;
use super::request::{self, Request};
use crate::Cause;
use crate::template::{Escape, Template};

#[derive(Debug)]
pub(super) enum Content {
    Payload,
    Json,
    Batch,
    Nothing,
    Made { template: Template, content_type: ContentType },
    Chat { chat: Chat, text: Template },
    Influx(Influx),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chat {
    Slack,
    Teams,
    Discord,
}

const DEFAULT_TEXT: &str = "{{ topic }}{% if device %} ({{ device }}){% endif %}: {{ text }}";

impl Content {
    /// The error names the setting.
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let chosen = [config.body.is_some(), config.template.is_some(), config.preset.is_some()];
        if chosen.into_iter().filter(|chosen| *chosen).count() > 1 {
            let setting = if config.preset.is_some() { "preset" } else { "template" };
            return Err(ConfigError::at(setting, "set only one of body, template and preset"));
        }
        let chat = match config.preset {
            Some(Preset::Slack) => Some(Chat::Slack),
            Some(Preset::Teams) => Some(Chat::Teams),
            Some(Preset::Discord) => Some(Chat::Discord),
            Some(Preset::Influxdb) | None => None,
        };
        for (setting, is_set, is_used, needs) in [
            ("content_type", config.content_type.is_some(), config.template.is_some(), "template"),
            ("text", config.text.is_some(), chat.is_some(), "preset = \"slack\", \"teams\" or \"discord\""),
            (
                "influxdb",
                config.influxdb.is_some(),
                config.preset == Some(Preset::Influxdb),
                "preset = \"influxdb\"",
            ),
        ] {
            if is_set && !is_used {
                return Err(ConfigError::at(setting, format!("is of no use without {needs}")));
            }
        }
        if let Some(text) = &config.template {
            let content_type = config.content_type.as_deref().map_or(Ok(ContentType::JSON), str::parse);
            let content_type =
                content_type.map_err(|error| ConfigError::at("content_type", error.to_string()))?;
            return Ok(Self::Made { template: Template::new("template", text)?, content_type });
        }
        if let Some(chat) = chat {
            let escape = if chat == Chat::Slack { Escape::Slack } else { Escape::Nothing };
            let text = config.text.as_deref().unwrap_or(DEFAULT_TEXT);
            return Ok(Self::Chat { chat, text: Template::escaping("text", text, escape)? });
        }
        if config.preset == Some(Preset::Influxdb) {
            let default = super::config::InfluxConfig::default();
            return Ok(Self::Influx(Influx::new(config.influxdb.as_ref().unwrap_or(&default))?));
        }
        Ok(match config.body.unwrap_or_default() {
            Body::Payload => Self::Payload,
            Body::Json => Self::Json,
            Body::Batch => Self::Batch,
            Body::None => Self::Nothing,
        })
    }

    /// Whether one request holds all that waits.
    pub(super) fn is_of_many(&self) -> bool {
        matches!(self, Self::Batch | Self::Influx(_))
    }

    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// The request for `part`: one delivery, or more where one request holds many. The error says which one of it is at
    /// fault, and why.
    pub(super) fn request(&self, part: &[Delivery]) -> Result<Request, (usize, Cause)> {
        let first = &part[0];
        match self {
            Self::Payload => Ok(request::of_payload(first)),
            Self::Json => Ok(request::of_json(first)),
            Self::Batch => Ok(request::of_batch(part)),
            Self::Nothing => Ok(request::of_nothing(first)),
            Self::Made { template, content_type } => {
                let body = template.render(first).map_err(|cause| (0, cause))?;
                if content_type.is_json()
                    && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&body)
                {
                    return Err((0, Cause::new(format!("template: it made no JSON: {error}"))));
                }
                Ok(request::of_made(first, content_type, body))
            }
            Self::Chat { chat, text } => {
                let text = text.render(first).map_err(|cause| (0, cause))?;
                Ok(request::of_made(first, &ContentType::JSON, chat.body(&text).to_string()))
            }
            Self::Influx(influx) => {
                let mut lines = String::new();
                for (index, delivery) in part.iter().enumerate() {
                    influx.write(delivery, &mut lines).map_err(|cause| (index, cause))?;
                }
                let content_type =
                    "text/plain; charset=utf-8".parse().map_err(|_| (0, Cause::new("no content type")))?;
                Ok(request::of_lines(part, &content_type, lines))
            }
        }
    }
}

impl Chat {
    /// How many characters the service takes; a message that has more would be refused.
    fn text_max(self) -> usize {
        match self {
            Self::Slack => 40_000,
            // 28 KiB with everything else, and a character may take four bytes.
            Self::Teams => 6_000,
            Self::Discord => 2_000,
        }
    }

    fn body(self, text: &str) -> Value {
        let text = shortened(text, self.text_max());
        match self {
            Self::Slack => json!({ "text": text }),
            Self::Discord => json!({ "content": text, "allowed_mentions": { "parse": [] } }),
            Self::Teams => json!({
                "type": "message",
                "attachments": [{
                    "contentType": "application/vnd.microsoft.card.adaptive",
                    "content": {
                        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                        "type": "AdaptiveCard",
                        "version": "1.4",
                        "body": [{ "type": "TextBlock", "text": text, "wrap": true }],
                    },
                }],
            }),
        }
    }
}

fn shortened(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max - 1).chain(['…']).collect(),
    }
}
