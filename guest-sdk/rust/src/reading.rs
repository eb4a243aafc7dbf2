//! What a handler asks of a reading.

use serde::Deserialize;

use crate::{Failure, Reading};

impl Reading {
    /// The payload as JSON. What is not the JSON that `T` says is rejected, with what is wrong and where.
    /// `T` may borrow from the reading.
    ///
    /// ```
    /// # use sandbar_guest::{Failure, Reading};
    /// #[derive(serde::Deserialize)]
    /// struct Sample {
    ///     celsius: f64,
    /// }
    ///
    /// # let reading = |payload: &str| Reading {
    /// #     id: String::new(), ingress: String::new(), topic: "t".into(), device: None, time: 0,
    /// #     content_type: "application/json".into(), attributes: vec![], payload: payload.into(),
    /// # };
    /// assert_eq!(reading(r#"{"celsius": 21.5}"#).json::<Sample>().unwrap().celsius, 21.5);
    ///
    /// let Err(Failure::Reject(cause)) = reading("{}").json::<Sample>() else { panic!() };
    /// assert_eq!(cause, "the payload is not the JSON expected: missing field `celsius` at line 1 column 2");
    /// ```
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_slice(&self.payload)
            .map_err(|error| Failure::reject(format!("the payload is not the JSON expected: {error}")))
    }

    /// The payload as text; what is not UTF-8 is rejected.
    ///
    /// ```
    /// # use sandbar_guest::Reading;
    /// fn words(reading: &Reading) -> Result<usize, sandbar_guest::Failure> {
    ///     Ok(reading.text()?.split_whitespace().count())
    /// }
    /// ```
    pub fn text(&self) -> Result<&str, Failure> {
        std::str::from_utf8(&self.payload)
            .map_err(|error| Failure::reject(format!("the payload is not UTF-8 text: {error}")))
    }

    /// The first attribute of that name.
    ///
    /// ```
    /// # use sandbar_guest::Reading;
    /// fn is_retained(reading: &Reading) -> bool {
    ///     reading.attribute("mqtt.retain") == Some("true")
    /// }
    /// ```
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// What the reading is about: its device or, where none is known, its topic.
    ///
    /// ```
    /// # use sandbar_guest::Reading;
    /// fn title(reading: &Reading) -> String {
    ///     format!("News of {}", reading.subject())
    /// }
    /// ```
    pub fn subject(&self) -> &str {
        self.device.as_deref().unwrap_or(&self.topic)
    }

    /// A setting such as `{topic}/celsius` with this reading's `{topic}`, `{device}` (its topic where none is
    /// known) and `{ingress}` put in.
    ///
    /// ```
    /// # use sandbar_guest::Reading;
    /// # let reading = Reading {
    /// #     id: String::new(), ingress: "web".into(), topic: "hall/heat".into(), device: Some("d1".into()), time: 0,
    /// #     content_type: String::new(), attributes: vec![], payload: vec![],
    /// # };
    /// assert_eq!(reading.fill_in("alarms/{device}/{topic}"), "alarms/d1/hall/heat");
    /// assert_eq!(reading.fill_in("{unknown} {"), "{unknown} {");
    /// ```
    pub fn fill_in(&self, template: &str) -> String {
        let mut text = String::with_capacity(template.len() + self.topic.len());
        let mut rest = template;
        while let Some(at) = rest.find('{') {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            let known = [
                ("{topic}", self.topic.as_str()),
                ("{device}", self.subject()),
                ("{ingress}", &self.ingress),
            ];
            let (taken, value) =
                known.into_iter().find(|(name, _)| rest.starts_with(name)).unwrap_or(("{", "{"));
            text.push_str(value);
            rest = &rest[taken.len()..];
        }
        text.push_str(rest);
        text
    }
}
