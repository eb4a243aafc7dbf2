//! Building what a handler puts out.

use serde::Serialize;

use crate::{Command, Failure, Message, Output};

const JSON: &str = "application/json";

impl Message {
    /// A message with any body.
    ///
    /// ```
    /// # use sandbar_guest::Message;
    /// let message = Message::new("pictures/door", "image/jpeg", vec![0xff, 0xd8]);
    /// ```
    pub fn new(
        topic: impl Into<String>,
        content_type: impl Into<String>,
        payload: impl Into<Vec<u8>>,
    ) -> Self {
        Self {
            topic: topic.into(),
            device: None,
            content_type: content_type.into(),
            attributes: Vec::new(),
            payload: payload.into(),
        }
    }

    /// A message whose body is `value` as JSON. Fails only for values that JSON cannot express, such as maps
    /// with keys that are no text.
    ///
    /// ```
    /// # use sandbar_guest::Message;
    /// # use sandbar_guest::serde_json::json;
    /// let message = Message::json("hall/climate", &json!({"celsius": 21.5})).unwrap();
    /// assert_eq!(message.payload, br#"{"celsius":21.5}"#);
    /// ```
    pub fn json(topic: impl Into<String>, value: &impl Serialize) -> Result<Self, Failure> {
        Ok(Self::new(topic, JSON, serde_json::to_vec(value)?))
    }

    /// A message whose body is plain text.
    ///
    /// ```
    /// # use sandbar_guest::Message;
    /// assert_eq!(Message::text("hall/door", "open").content_type, "text/plain");
    /// ```
    pub fn text(topic: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(topic, "text/plain", text.into())
    }

    /// Says what the message is about, where that is not the reading's device.
    ///
    /// ```
    /// # use sandbar_guest::Message;
    /// let message = Message::text("doors", "open").with_device("door-7");
    /// assert_eq!(message.device.as_deref(), Some("door-7"));
    /// ```
    #[must_use]
    pub fn with_device(mut self, device: impl Into<String>) -> Self {
        self.device = Some(device.into());
        self
    }

    /// Adds an attribute.
    ///
    /// ```
    /// # use sandbar_guest::Message;
    /// let message = Message::text("doors", "open").with_attribute("priority", "high");
    /// ```
    #[must_use]
    pub fn with_attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// The status of the HTTP response, when the message is a reply to a request.
    ///
    /// ```
    /// # use sandbar_guest::Message;
    /// let created = Message::text("", "made").with_status(201).into_reply();
    /// ```
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        self.with_attribute("http.status", status.to_string())
    }

    /// To the sender of the reading, over its own connection, instead of to the route's sinks.
    ///
    /// ```
    /// # use sandbar_guest::{Message, Output};
    /// assert!(matches!(Message::text("", "thanks").into_reply(), Output::Reply(_)));
    /// ```
    pub fn into_reply(self) -> Output {
        Output::Reply(self)
    }
}

impl Command {
    /// A command with any parameters.
    ///
    /// ```
    /// # use sandbar_guest::Command;
    /// let restart = Command::new("router-1", "restart", "text/plain", "");
    /// ```
    pub fn new(
        device: impl Into<String>,
        name: impl Into<String>,
        content_type: impl Into<String>,
        payload: impl Into<Vec<u8>>,
    ) -> Self {
        Self {
            device: device.into(),
            name: name.into(),
            content_type: content_type.into(),
            payload: payload.into(),
        }
    }

    /// A command whose parameters are `value` as JSON.
    ///
    /// ```
    /// # use sandbar_guest::{Command, serde_json::json};
    /// let dim = Command::json("lamp-3", "set", &json!({"level": 20})).unwrap();
    /// assert_eq!(dim.payload, br#"{"level":20}"#);
    /// ```
    pub fn json(
        device: impl Into<String>,
        name: impl Into<String>,
        value: &impl Serialize,
    ) -> Result<Self, Failure> {
        Ok(Self::new(device, name, JSON, serde_json::to_vec(value)?))
    }
}

impl From<Message> for Output {
    fn from(message: Message) -> Self {
        Self::Message(message)
    }
}

impl From<Command> for Output {
    fn from(command: Command) -> Self {
        Self::Command(command)
    }
}
