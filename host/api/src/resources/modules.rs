//! Modules: upload, versions, trials.

use axum::Json as Respond;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sandbar_control::tables::Scalar;
use sandbar_control::{MODULE_MAX_BYTES, Trial};
use sandbar_reading::{ConfigError, Name};

use super::{Answer, Named};
use crate::app::App;
use crate::body;
use crate::extract::{self, Json, Path};
use crate::views::{
    Activate, Code, ConfigValue, ModuleView, NewTrial, Page, Problem, TrialView, UploadedView,
};

const SIGNATURE: &str = "sandbar-signature";

/// `false` keeps a new version without using it.
pub(crate) const ACTIVATE: &str = "sandbar-activate";

pub(crate) async fn upload(
    State(app): State<App>,
    Path(Named { name }): Path<Named>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Respond<UploadedView>), Problem> {
    let activate = activates(&headers)?;
    let signature = signature(&headers)?;
    let is_script = is_script(&headers)?;
    let _one_of_few = app
        .uploads
        .try_acquire()
        .map_err(|_| Problem::new(Code::Busy, "other components are being uploaded"))?;
    let module = stored(is_script, body::read(&headers, body, MODULE_MAX_BYTES).await?)?;
    let uploaded = app.control.upload_signed(name.0, module, signature, activate).await?;
    let status = if uploaded.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Respond(uploaded.into())))
}

fn activates(headers: &HeaderMap) -> Result<bool, Problem> {
    match headers.get(ACTIVATE).map(|value| value.as_bytes()) {
        None | Some(b"true") => Ok(true),
        Some(b"false") => Ok(false),
        Some(_) => Err(Problem::at(
            Code::InvalidParameter,
            ConfigError::at("Sandbar-Activate", "must be true or false"),
        )),
    }
}

/// Of the body, by a key that the host trusts.
pub(crate) fn signature(headers: &HeaderMap) -> Result<Option<Vec<u8>>, Problem> {
    let Some(text) = headers.get(SIGNATURE) else { return Ok(None) };
    let bytes = STANDARD.decode(text.as_bytes());
    let wrong = |_| ConfigError::at("Sandbar-Signature", "must be base 64 of 64 bytes");
    bytes.map(Some).map_err(|error| Problem::at(Code::InvalidParameter, wrong(error)))
}

/// Whether the body is a script in JavaScript (RFC 9239), and no component.
pub(crate) fn is_script(headers: &HeaderMap) -> Result<bool, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    let essence =
        content_type.map(|text| text.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii());
    match essence {
        None | Some(b"application/wasm" | b"application/octet-stream") => Ok(false),
        Some(b"text/javascript" | b"application/javascript") => Ok(true),
        Some(_) => Err(Problem::new(
            Code::UnsupportedMediaType,
            "the body must be application/wasm, or text/javascript for a script",
        )),
    }
}

/// A body as the store has it.
pub(crate) fn stored(is_script: bool, body: Bytes) -> Result<Bytes, Problem> {
    if !is_script {
        return Ok(body);
    }
    let text = std::str::from_utf8(&body);
    text.map(sandbar_control::script::javascript).map_err(|error| {
        Problem::new(Code::InvalidComponent, format!("the script is not UTF-8 text: {error}"))
    })
}

pub(crate) async fn list(State(app): State<App>) -> Respond<Page<ModuleView>> {
    Respond(Page::all(app.control.modules().into_iter().map(Into::into).collect()))
}

pub(crate) async fn show(State(app): State<App>, Path(Named { name }): Path<Named>) -> Answer<ModuleView> {
    Ok(Respond(app.control.module(name.0.as_str())?.into()))
}

pub(crate) async fn activate(
    State(app): State<App>,
    Path(Named { name }): Path<Named>,
    Json(Activate { version }): Json<Activate>,
) -> Answer<ModuleView> {
    Ok(Respond(app.control.activate(name.0, version).await?.into()))
}

pub(crate) async fn remove(
    State(app): State<App>,
    Path(Named { name }): Path<Named>,
) -> Result<StatusCode, Problem> {
    app.control.remove_module(name.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn invoke(
    State(app): State<App>,
    Path(Named { name }): Path<Named>,
    headers: HeaderMap,
    body: Body,
) -> Answer<TrialView> {
    let trial: NewTrial = extract::large_json(&app, &headers, body).await?;
    let route = trial.route.map(|route| route.parse::<Name>()).transpose();
    let wrong = |error: ConfigError| Problem::at(Code::InvalidJson, error);
    let trial = Trial {
        module: name.0,
        version: trial.version,
        route: route.map_err(|error| wrong(ConfigError::at("route", error.to_string())))?,
        config: trial
            .config
            .map(|config| config.into_iter().map(|(key, value)| (key, scalar(value))).collect()),
        reading: trial.reading.inbound().map_err(|error| wrong(error.within("reading")))?,
    };
    Ok(Respond(app.control.invoke(trial).await?.into()))
}

fn scalar(value: ConfigValue) -> Scalar {
    Scalar(match value {
        ConfigValue::Text(text) => text,
        ConfigValue::Number(number) => number.to_string(),
        ConfigValue::Boolean(boolean) => boolean.to_string(),
    })
}
