//! A JSON object of which a handler changes a part.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::Failure;

/// A JSON object whose fields keep their order and, until they are set, their very bytes: long numbers lose no
/// digit and nested values are not even read. Borrows from the reading.
///
/// ```
/// # use sandbar_guest::{Message, Object};
/// let mut object: Object = serde_json::from_str(r#"{"t": 21.50, "serial": 12345678901234567890}"#).unwrap();
/// assert_eq!(object.number("t").unwrap(), 21.5);
/// object.set("unit", &"C").unwrap();
/// assert_eq!(
///     serde_json::to_string(&object).unwrap(),
///     r#"{"t":21.50,"serial":12345678901234567890,"unit":"C"}"#,
/// );
/// ```
#[derive(Clone, Debug, Default)]
pub struct Object<'a> {
    fields: Vec<(Cow<'a, str>, Cow<'a, RawValue>)>,
}

impl<'a> Object<'a> {
    /// The value of a field, as it stands in the payload. Of several fields with one name the last counts.
    ///
    /// ```
    /// # use sandbar_guest::Object;
    /// let object: Object = serde_json::from_str(r#"{"tags": [1,  2]}"#).unwrap();
    /// assert_eq!(object.get("tags").unwrap().get(), "[1,  2]");
    /// ```
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.position(name).map(|at| &*self.fields[at].1)
    }

    /// A field that must be a number; what is wrong with it is rejected, with the field's name.
    ///
    /// ```
    /// # use sandbar_guest::{Failure, Object};
    /// let object: Object = serde_json::from_str(r#"{"t": "warm"}"#).unwrap();
    /// let Err(Failure::Reject(cause)) = object.number("t") else { panic!() };
    /// assert_eq!(cause, "field `t` is not a number");
    /// ```
    pub fn number(&self, name: &str) -> Result<f64, Failure> {
        let value =
            self.get(name).ok_or_else(|| Failure::reject(format!("the payload has no field `{name}`")))?;
        serde_json::from_str(value.get())
            .map_err(|_| Failure::reject(format!("field `{name}` is not a number")))
    }

    /// A field's text, if it is there and is a text.
    ///
    /// ```
    /// # use sandbar_guest::Object;
    /// let object: Object = serde_json::from_str(r#"{"unit": "F", "t": 1}"#).unwrap();
    /// assert_eq!(object.text("unit").as_deref(), Some("F"));
    /// assert_eq!(object.text("t"), None);
    /// ```
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        serde_json::from_str::<Text>(self.get(name)?.get()).ok().map(|text| text.0)
    }

    /// Sets a field: in its place if there is one, else as the last.
    ///
    /// ```
    /// # use sandbar_guest::Object;
    /// let mut object = Object::default();
    /// object.set("level", &3).unwrap();
    /// assert_eq!(serde_json::to_string(&object).unwrap(), r#"{"level":3}"#);
    /// ```
    pub fn set(&mut self, name: impl Into<Cow<'a, str>>, value: &impl Serialize) -> Result<(), Failure> {
        let (name, value) = (name.into(), Cow::Owned(serde_json::value::to_raw_value(value)?));
        match self.position(&name) {
            Some(at) => self.fields[at].1 = value,
            None => self.fields.push((name, value)),
        }
        Ok(())
    }

    /// Removes a field; false if there is none.
    ///
    /// ```
    /// # use sandbar_guest::Object;
    /// let mut object: Object = serde_json::from_str(r#"{"name": "Ada", "t": 1}"#).unwrap();
    /// assert!(object.remove("name"));
    /// assert_eq!(serde_json::to_string(&object).unwrap(), r#"{"t":1}"#);
    /// ```
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.fields.len();
        self.fields.retain(|(key, _)| key != name);
        self.fields.len() != before
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.fields.iter().rposition(|(key, _)| key == name)
    }
}

/// A text that borrows from the payload unless it has escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut fields = Vec::with_capacity(8);
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    fields.push((name, Cow::Borrowed(value)));
                }
                Ok(Object { fields })
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
