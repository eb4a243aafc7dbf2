//! One entry of the API: where it is, what answers it, and what the OpenAPI document says of it. The router
//! and the document are made from the same list, so that neither can know more than the other.

use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::app::App;
use crate::views::Code;

pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

pub(crate) struct Endpoint {
    pub(crate) path: &'static str,
    /// In lower case.
    pub(crate) method: &'static str,
    pub(crate) handler: MethodRouter<App>,
    pub(crate) summary: &'static str,
    pub(crate) query: Option<SchemaOf>,
    /// Headers that it looks at, each with its description.
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    pub(crate) body: Body,
    pub(crate) answers: Vec<(u16, Content)>,
    /// Beside those that any request of its kind can meet.
    pub(crate) codes: Vec<Code>,
}

pub(crate) enum Body {
    None,
    Json { schema: SchemaOf, required: bool },
    Wasm { required: bool },
}

pub(crate) enum Content {
    None,
    Json(SchemaOf),
    /// Text of this media type.
    Text(&'static str),
}

impl Endpoint {
    fn new<H: Handler<T, App>, T: 'static>(method: Method, path: &'static str, handler: H) -> Self {
        let (method, filter) = method;
        Self {
            path,
            method,
            handler: on(filter, handler),
            summary: "",
            query: None,
            headers: Vec::new(),
            body: Body::None,
            answers: Vec::new(),
            codes: Vec::new(),
        }
    }

    /// What it does, in a few words.
    pub(crate) fn does(self, summary: &'static str) -> Self {
        Self { summary, ..self }
    }

    pub(crate) fn query<T: JsonSchema>(self) -> Self {
        Self { query: Some(T::json_schema), ..self }
    }

    pub(crate) fn header(mut self, name: &'static str, description: &'static str) -> Self {
        self.headers.push((name, description));
        self
    }

    pub(crate) fn takes<T: JsonSchema>(self) -> Self {
        Self { body: Body::Json { schema: schema_of::<T>, required: true }, ..self }
    }

    pub(crate) fn may_take<T: JsonSchema>(self) -> Self {
        Self { body: Body::Json { schema: schema_of::<T>, required: false }, ..self }
    }

    pub(crate) fn takes_wasm(self) -> Self {
        Self { body: Body::Wasm { required: true }, ..self }
    }

    pub(crate) fn may_take_wasm(self) -> Self {
        Self { body: Body::Wasm { required: false }, ..self }
    }

    pub(crate) fn gives<T: JsonSchema>(mut self, status: u16) -> Self {
        self.answers.push((status, Content::Json(schema_of::<T>)));
        self
    }

    pub(crate) fn gives_text(mut self, media_type: &'static str) -> Self {
        self.answers.push((200, Content::Text(media_type)));
        self
    }

    pub(crate) fn gives_nothing(mut self) -> Self {
        self.answers.push((204, Content::None));
        self
    }

    pub(crate) fn fails(mut self, codes: &[Code]) -> Self {
        self.codes.extend(codes);
        self
    }

    /// Every code that it can answer with.
    pub(crate) fn all_codes(&self) -> Vec<Code> {
        let mut codes = self.codes.clone();
        if self.path.starts_with("/v1/") {
            codes.extend([
                Code::Unauthorized,
                Code::MethodNotAllowed,
                Code::Storage,
                Code::Stopping,
                Code::Busy,
            ]);
        }
        if self.path.contains('{') || self.query.is_some() || !self.headers.is_empty() {
            codes.push(Code::InvalidParameter);
        }
        if self.path.contains('{') {
            codes.push(Code::NotFound);
        }
        if !matches!(self.body, Body::None) {
            codes.extend([Code::InvalidBody, Code::Timeout, Code::TooLarge, Code::UnsupportedMediaType]);
        }
        if matches!(self.body, Body::Json { .. }) {
            codes.push(Code::InvalidJson);
        }
        if self.method != "get" {
            codes.push(Code::DiskFull);
        }
        codes
    }
}

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

type Method = (&'static str, MethodFilter);

macro_rules! methods {
    ($($name:ident = $filter:ident),+) => {$(
        pub(crate) fn $name<H: Handler<T, App>, T: 'static>(path: &'static str, handler: H) -> Endpoint {
            Endpoint::new((stringify!($name), MethodFilter::$filter), path, handler)
        }
    )+};
}

methods! { get = GET, put = PUT, post = POST, delete = DELETE }
