//! The dashboard: a page that can do what the API can, and nothing else. Everybody may load it; what it asks
//! for needs the cookie that the sign-in link buys.

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::auth;
use crate::views::{Code, Problem};

const PAGE: &str = include_str!("assets/dashboard.html");
const SCRIPT: &str = include_str!("assets/dashboard.js");
const DEVICES: &str = include_str!("assets/devices.js");
const STYLE: &str = include_str!("assets/dashboard.css");

/// Nothing from elsewhere, nothing inline, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// For how long a browser stays signed in, in seconds.
const SIGNED_IN: u32 = 30 * 24 * 3600;

/// The page; with `?token=…` the sign-in: a cookie, and the page without the token in its address.
pub(crate) async fn page(State(app): State<App>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let token = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token");
    match token {
        None => asset("text/html; charset=utf-8", PAGE),
        Some((_, token)) => sign_in(&app, &request, &token),
    }
}

fn sign_in(app: &App, request: &Request, token: &str) -> Response {
    if !app.token.is(token.trim()) {
        return Problem::new(Code::Unauthorized, "the token of this link is wrong").into_response();
    }
    let session = app.token.session(auth::host(request).unwrap_or_default());
    let cookie =
        format!("{}={session}; Path=/; Max-Age={SIGNED_IN}; HttpOnly; SameSite=Strict", auth::COOKIE);
    let headers = [
        (header::LOCATION, "/".to_owned()),
        (header::SET_COOKIE, cookie),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    (StatusCode::SEE_OTHER, headers).into_response()
}

pub(crate) async fn script() -> Response {
    asset("text/javascript; charset=utf-8", SCRIPT)
}

pub(crate) async fn devices() -> Response {
    asset("text/javascript; charset=utf-8", DEVICES)
}

pub(crate) async fn style() -> Response {
    asset("text/css; charset=utf-8", STYLE)
}

fn asset(content_type: &'static str, content: &'static str) -> Response {
    let headers: [(HeaderName, &'static str); 5] = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A new version of the host has a new page.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers.map(|(name, value)| (name, HeaderValue::from_static(value))), content).into_response()
}
