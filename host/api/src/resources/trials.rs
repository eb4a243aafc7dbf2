//! Versions on trial, tries on journaled readings, and replays.

use axum::Json as Respond;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use sandbar_control::{MODULE_MAX_BYTES, NewReplay, OnTrial, ReplayOf, TrialMode, Try, TryCandidate};
use sandbar_reading::{ConfigError, Timestamp, TopicFilter};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Answer, Named, modules};
use crate::app::App;
use crate::body;
use crate::extract::{Json, Path, Query};
use crate::params::{FilterParam, FlagParam, LimitParam, NameParam, ReplayParam, SinceParam, VersionParam};
use crate::views::{self, CandidateMode, Code, ModuleView, NewCandidate, Page, Problem, ReplayView, TryView};

pub(crate) async fn put_candidate(
    State(app): State<App>,
    Path(Named { name }): Path<Named>,
    Json(asked): Json<NewCandidate>,
) -> Answer<ModuleView> {
    let NewCandidate { version, mode, percent, errors_percent, errors_after } = asked;
    let mode = match mode {
        CandidateMode::Shadow => TrialMode::Shadow,
        CandidateMode::Canary => TrialMode::Canary { percent },
    };
    let since = app.control.now();
    let asked = OnTrial { version, mode, errors_percent, errors_after, since };
    Ok(Respond(app.control.put_candidate(name.0, asked).await?.into()))
}

pub(crate) async fn remove_candidate(
    State(app): State<App>,
    Path(Named { name }): Path<Named>,
) -> Result<StatusCode, Problem> {
    app.control.remove_candidate(name.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn promote(State(app): State<App>, Path(Named { name }): Path<Named>) -> Answer<ModuleView> {
    Ok(Respond(app.control.promote(name.0).await?.into()))
}

/// Without a body, `version` says what is tried.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WantedTry {
    /// The route whose readings, settings and active version are taken.
    route: Option<NameParam>,
    /// Only readings whose topic matches this filter.
    topic: Option<FilterParam>,
    /// Only readings accepted then or later.
    since: Option<SinceParam>,
    /// Only readings accepted before.
    until: Option<SinceParam>,
    /// The newest so many of them.
    last: LimitParam,
    /// Of those that the route could not handle, instead of the journal's; `topic`, `since` and `until` are for those.
    dead_letters: Option<FlagParam>,
    /// A version of the route's module to try, if the body is empty.
    version: Option<VersionParam>,
}

pub(crate) async fn try_out(
    State(app): State<App>,
    Query(wanted): Query<WantedTry>,
    headers: HeaderMap,
    body: Body,
) -> Answer<TryView> {
    let _one_of_few = app
        .uploads
        .try_acquire()
        .map_err(|_| Problem::new(Code::Busy, "other components are being uploaded"))?;
    let wasm = body::read(&headers, body, MODULE_MAX_BYTES).await?;
    let candidate = match (wasm.is_empty(), wanted.version) {
        (false, None) => TryCandidate::Wasm {
            wasm: modules::stored(modules::is_script(&headers)?, wasm)?,
            signature: modules::signature(&headers)?,
        },
        (true, Some(version)) => TryCandidate::Version(version.0),
        _ => {
            let problem = "give either a component, or a script, as the body, or a version";
            return Err(Problem::at(Code::InvalidParameter, ConfigError::at("version", problem)));
        }
    };
    let dead_letters = wanted.dead_letters.is_some_and(|flag| flag.0);
    let of_the_journal = wanted.topic.is_some() || wanted.since.is_some() || wanted.until.is_some();
    if dead_letters && (of_the_journal || wanted.route.is_none()) {
        let problem = "are a route's, and cannot be limited by topic, since or until";
        return Err(Problem::at(Code::InvalidParameter, ConfigError::at("dead_letters", problem)));
    }
    let asked = Try {
        route: wanted.route.map(|route| route.0),
        topic: wanted.topic.map(|topic| topic.0),
        since: wanted.since.map(|since| since.0),
        until: wanted.until.map(|until| until.0),
        last: wanted.last.0,
        dead_letters,
        candidate,
    };
    Ok(Respond(app.control.try_out(asked).await?.into()))
}

/// `/v1/replays/{id}`
#[derive(Deserialize)]
pub(crate) struct ById {
    id: ReplayParam,
}

pub(crate) async fn replays(State(app): State<App>) -> Answer<Page<ReplayView>> {
    let replays = app.control.replays().await?;
    Ok(Respond(Page::all(replays.into_iter().rev().map(Into::into).collect())))
}

pub(crate) async fn replay(State(app): State<App>, Path(ById { id }): Path<ById>) -> Answer<ReplayView> {
    Ok(Respond(app.control.replay(&id.0).await?.into()))
}

pub(crate) async fn cancel_replay(
    State(app): State<App>,
    Path(ById { id }): Path<ById>,
) -> Answer<ReplayView> {
    Ok(Respond(app.control.cancel_replay(&id.0).await?.into()))
}

pub(crate) async fn begin_replay(
    State(app): State<App>,
    Json(asked): Json<views::NewReplay>,
) -> Result<(StatusCode, Respond<ReplayView>), Problem> {
    let wrong =
        |field: &str, problem: String| Problem::at(Code::InvalidJson, ConfigError::at(field, problem));
    let route =
        asked.route.parse().map_err(|error: sandbar_reading::NameError| wrong("route", error.to_string()))?;
    let time = |field: &str, text: &Option<String>| -> Result<Option<Timestamp>, Problem> {
        let parse = |text: &String| {
            text.parse().map_err(|_| wrong(field, "must be a time, as RFC 3339 has it".into()))
        };
        text.as_ref().map(parse).transpose()
    };
    let (since, until) = (time("since", &asked.since)?, time("until", &asked.until)?);
    if let Some(topic) = &asked.topic {
        topic.parse::<TopicFilter>().map_err(|error| wrong("topic", error.to_string()))?;
    }
    let of = match (asked.dead_letters, since) {
        (true, None) if until.is_none() && asked.topic.is_none() => ReplayOf::DeadLetters,
        (true, _) => {
            return Err(wrong("dead_letters", "cannot be limited by since, until or topic".to_owned()));
        }
        (false, Some(since)) => {
            let until = until.unwrap_or_else(|| app.control.now());
            ReplayOf::Journal { since, until, topic: asked.topic }
        }
        (false, None) => return Err(wrong("since", "is needed, or `dead_letters`".to_owned())),
    };
    let asked = NewReplay { route, version: asked.version, of, commands: asked.commands };
    let replay = app.control.begin_replay(asked).await?;
    Ok((StatusCode::ACCEPTED, Respond(replay.into())))
}
