//! Lets through what has the token, or the dashboard's cookie on a request of the dashboard's own.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::token::Token;
use crate::views::{Code, Problem};

pub(crate) const COOKIE: &str = "sandbar";

/// Everything under `/v1`, also what is not there: who may not ask learns nothing.
pub(crate) async fn check(State(token): State<Token>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let guarded = path == "/v1" || path.starts_with("/v1/");
    match guarded.then(|| authorize(&token, &request)) {
        Some(Err(why)) => Problem::new(Code::Unauthorized, why).into_response(),
        _ => next.run(request).await,
    }
}

fn authorize(token: &Token, request: &Request) -> Result<(), &'static str> {
    let headers = request.headers();
    if let Some(authorization) = headers.get(header::AUTHORIZATION) {
        let bearer = authorization.to_str().ok().and_then(|text| text.split_once(' '));
        return match bearer {
            Some((scheme, presented)) if scheme.eq_ignore_ascii_case("bearer") => {
                if token.is(presented.trim()) { Ok(()) } else { Err("the token is wrong") }
            }
            _ => Err("the header must be `Authorization: Bearer TOKEN`"),
        };
    }
    let Some(session) = cookie(headers) else {
        return Err("a token is needed: `Authorization: Bearer TOKEN`");
    };
    let host = host(request).unwrap_or_default();
    if !is_same_origin(headers, host) {
        return Err("a page of another site may not ask");
    }
    if token.is_session(host, session) {
        Ok(())
    } else {
        Err("sign in again: the session is not of this host")
    }
}

/// The address that the client believes to talk to.
pub(crate) fn host(request: &Request) -> Option<&str> {
    let authority = || request.uri().authority().map(|authority| authority.as_str());
    request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).or_else(authority)
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// Browsers say where a request comes from; what is no browser has no cookie.
fn is_same_origin(headers: &HeaderMap, host: &str) -> bool {
    let origin = headers.get(header::ORIGIN).map(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        origin.split_once("://").is_some_and(|(_, rest)| rest == host)
    });
    let site = headers.get("sec-fetch-site").map(|site| site == "same-origin" || site == "none");
    origin.unwrap_or(true) && site.unwrap_or(true)
}
