//! A delivery to a message (RFC 5322). Pure: the same delivery gives the same message.

use std::time::{Duration, UNIX_EPOCH};

use lettre::address::Envelope;
use lettre::message::header::ContentType;
use lettre::message::{Attachment, Mailbox, Mailboxes, MultiPart, SinglePart};
use lettre::{Address, Message};
use sandbar_reading::{ConfigError, Delivery};

use super::Config;
use crate::Cause;
use crate::template::{Escape, Fields, Template};

pub(super) struct Composer {
    from: Template,
    to: Vec<Template>,
    subject: Template,
    body: Template,
    html: Option<Template>,
    attachment: Option<Template>,
}

impl Composer {
    /// The error names the setting.
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        if config.to.is_empty() {
            return Err(ConfigError::at("to", "must name somebody"));
        }
        // What is no template can be checked now.
        let check =
            |setting: String, text: &str| match Template::is_one(text) || text.parse::<Mailboxes>().is_ok() {
                true => Ok(()),
                false => Err(ConfigError::at(
                    setting,
                    format!("`{text}` is no address, such as Name <name@example.com>"),
                )),
            };
        check("from".to_owned(), &config.from)?;
        for (index, to) in config.to.iter().enumerate() {
            check(format!("to[{index}]"), to)?;
        }
        let to = config.to.iter().enumerate().map(|(index, to)| Template::new(&format!("to[{index}]"), to));
        Ok(Self {
            from: Template::new("from", &config.from)?,
            to: to.collect::<Result<_, _>>()?,
            subject: Template::new("subject", &config.subject)?,
            body: Template::new("body", &config.body)?,
            html: config
                .html
                .as_deref()
                .map(|html| Template::escaping("html", html, Escape::Html))
                .transpose()?,
            attachment: config
                .attachment
                .as_deref()
                .map(|name| Template::new("attachment", name))
                .transpose()?,
        })
    }

    /// The envelope, and the message as it is sent. An error says why this delivery can be none.
    pub(super) fn compose(&self, delivery: &Delivery) -> Result<(Envelope, Vec<u8>), Cause> {
        let fields = Fields::of(delivery);
        let from: Mailbox = parse("from", &self.from.render_fields(&fields)?)?;
        let mut to = Vec::new();
        for (index, template) in self.to.iter().enumerate() {
            let rendered = one_line(&template.render_fields(&fields)?);
            to.extend(parse::<Mailboxes>(&format!("to[{index}]"), &rendered)?);
        }
        let mut message = Message::builder()
            .message_id(Some(format!("<{}@{}>", delivery.id, from.email.domain())))
            .date(UNIX_EPOCH + Duration::from_nanos(delivery.time.nanos()))
            .subject(one_line(&self.subject.render_fields(&fields)?))
            .from(from.clone());
        for mailbox in &to {
            message = message.to(mailbox.clone());
        }
        let text = self.body.render_fields(&fields)?;
        let html = self.html.as_ref().map(|html| html.render_fields(&fields)).transpose()?;
        let name = self.attachment.as_ref().map(|name| name.render_fields(&fields)).transpose()?;
        let boundary = |part: &str| format!("sandbar-{part}-{}", delivery.id);
        let attached = name.map(|name| attachment(&one_line(&name), delivery));
        let message = match (html, attached) {
            (None, None) => message.singlepart(SinglePart::plain(text)),
            (None, Some(attached)) => {
                let mixed = MultiPart::mixed().boundary(boundary("mixed"));
                message.multipart(mixed.singlepart(SinglePart::plain(text)).singlepart(attached))
            }
            (Some(html), attached) => {
                let both = MultiPart::alternative().boundary(boundary("alternative"));
                let both = both.singlepart(SinglePart::plain(text)).singlepart(SinglePart::html(html));
                match attached {
                    None => message.multipart(both),
                    Some(attached) => {
                        let mixed = MultiPart::mixed().boundary(boundary("mixed"));
                        message.multipart(mixed.multipart(both).singlepart(attached))
                    }
                }
            }
        };
        let message = message.map_err(|error| Cause::of("composing the message", &error))?;
        let recipients: Vec<Address> = to.into_iter().map(|mailbox| mailbox.email).collect();
        let envelope = Envelope::new(Some(from.email), recipients);
        let envelope = envelope.map_err(|error| Cause::of("to", &error))?;
        Ok((envelope, message.formatted()))
    }
}

fn parse<T: std::str::FromStr>(setting: &str, text: &str) -> Result<T, Cause>
where
    T::Err: std::fmt::Display,
{
    text.trim().parse().map_err(|error| Cause::new(format!("{setting}: `{text}` is no address: {error}")))
}

/// Nothing that a reading says can begin another header.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

fn attachment(name: &str, delivery: &Delivery) -> SinglePart {
    let octets = "application/octet-stream";
    let declared = ContentType::parse(delivery.message.content_type.as_str());
    let content_type = declared.or_else(|_| ContentType::parse(octets)).expect("octets are a content type");
    Attachment::new(name.to_owned()).body(delivery.message.payload.to_vec(), content_type)
}
