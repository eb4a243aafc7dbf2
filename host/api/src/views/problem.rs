//! What every error answer looks like.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Problem details (RFC 9457), media type `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: ProblemType,
    /// The HTTP status in words.
    pub title: Cow<'static, str>,
    pub status: u16,
    /// What is wrong here, for a person.
    pub detail: String,
    pub code: Code,
    /// The setting, field or parameter that is wrong: `paths[1].method`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    /// The line of the configuration file, or of the JSON body, that is wrong; counts from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column of the JSON body that is wrong; counts from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// What uses the thing that was to be removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used_by: Vec<String>,
}

/// `code` says what kind of problem it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProblemType {
    #[default]
    #[serde(rename = "about:blank")]
    AboutBlank,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal),+ $(,)?) => {
        /// What kind of problem it is. These do not change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum Code { $($(#[$doc])* $name),+ }

        impl Code {
            /// The HTTP status it comes with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),+ }
            }
        }
    };
}

codes! {
    /// No token, or a wrong one.
    Unauthorized = 401,
    NotFound = 404,
    MethodNotAllowed = 405,
    /// A parameter of the path, the query or a header.
    InvalidParameter = 400,
    /// The body is not JSON, or not the JSON that is asked for.
    InvalidJson = 400,
    /// The body did not arrive whole.
    InvalidBody = 400,
    /// The body came too slowly.
    Timeout = 408,
    /// The device did not answer in time.
    Unanswered = 408,
    /// No ingress reaches the device now.
    Unreachable = 409,
    /// Settings that cannot work.
    InvalidConfig = 422,
    /// No component, or one that does not fit the contract.
    InvalidComponent = 422,
    /// A component that nobody has signed whom the host trusts.
    Untrusted = 403,
    TooLarge = 413,
    UnsupportedMediaType = 415,
    /// The configuration file declares it: change it there.
    DeclaredInFile = 409,
    /// Something uses it.
    InUse = 409,
    /// It is not in the state that this needs.
    Conflict = 409,
    /// Try again later.
    Busy = 503,
    DiskFull = 507,
    /// The storage fails.
    Storage = 503,
    /// The host is shutting down.
    Stopping = 503,
}
