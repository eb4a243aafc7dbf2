//! Reads paths, queries and bodies; what is wrong is named.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use sandbar_reading::ConfigError;
use serde::Deserializer;
use serde::de::value::{Error as ValueError, MapDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::app::App;
use crate::body;
use crate::views::{Code, Problem};

/// The parameters of the path, by name.
pub(crate) struct Path<T>(pub(crate) T);

/// The parameters of the query, by name. One that is not known, or given twice, is an error.
pub(crate) struct Query<T>(pub(crate) T);

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

/// A JSON body that may be left out.
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|error| Problem::new(Code::InvalidParameter, error.to_string()))?;
        let pairs = params.iter().map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value)));
        pairs_as(pairs).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        pairs_as(form_urlencoded::parse(query.as_bytes())).map(Self)
    }
}

fn pairs_as<'a, T: DeserializeOwned>(
    pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
) -> Result<T, Problem> {
    let wrong =
        |name: &str, problem: String| Problem::at(Code::InvalidParameter, ConfigError::at(name, problem));
    let mut by_name = BTreeMap::new();
    for (name, value) in pairs {
        if by_name.contains_key(&name) {
            return Err(wrong(&name, "must be given once only".to_owned()));
        }
        by_name.insert(name, Text(value));
    }
    let from = MapDeserializer::<_, ValueError>::new(by_name.into_iter());
    serde_path_to_error::deserialize(from).map_err(|error| {
        let name = error.path().to_string();
        wrong(if name == "." { "" } else { &name }, error.inner().to_string())
    })
}

/// The value of a parameter: a text, and there.
struct Text<'a>(Cow<'a, str>);

impl<'a> IntoDeserializer<'a, ValueError> for Text<'a> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Text<'_> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_string(self.0.into_owned())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        must_be_json(&parts.headers)?;
        json(&body::read(&parts.headers, body, body::JSON_MAX).await?).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let body = body::read(&parts.headers, body, body::JSON_MAX).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        must_be_json(&parts.headers)?;
        json(&body).map(Self)
    }
}

/// A body of another type may come from a form of another site, without its browser asking first.
fn must_be_json(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|text| text.to_str().ok());
    match given.map(str::parse::<sandbar_reading::ContentType>) {
        Some(Ok(content_type)) if content_type.is_json() => Ok(()),
        _ => Err(Problem::new(Code::UnsupportedMediaType, "the body must be application/json")),
    }
}

fn json<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let mut from = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut from).map_err(|error| {
        let path = error.path().to_string();
        (if path == "." { String::new() } else { path }, error.into_inner())
    });
    read.and_then(|read| from.end().map(|()| read).map_err(|error| (String::new(), error))).map_err(
        |(path, error)| {
            let place = |number| Some(u32::try_from(number).unwrap_or(u32::MAX));
            let (line, column) = (place(error.line()), place(error.column()));
            let setting = if error.is_data() { path } else { String::new() };
            Problem {
                line,
                column,
                ..Problem::at(Code::InvalidJson, ConfigError::at(setting, error.to_string()))
            }
        },
    )
}

/// A JSON body with a reading in it: base 64 makes a payload longer by a third.
pub(crate) async fn large_json<T: DeserializeOwned>(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Problem> {
    must_be_json(headers)?;
    let limit = body::JSON_MAX + app.control.reading_max().div_ceil(3).saturating_mul(4);
    json(&body::read(headers, body, limit).await?)
}
