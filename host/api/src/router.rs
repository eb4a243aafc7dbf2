//! Every path, and what answers where there is none.

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, Uri};
use axum::middleware::Next;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use sandbar_control::Control;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::token::Token;
use crate::views::{Code, Problem};
use crate::{auth, dashboard, endpoints, openapi};

/// All of the API and the dashboard. `stop` ends what would not end by itself: tails.
pub fn router(control: Control, token: Token, stop: CancellationToken) -> Router {
    let endpoints = endpoints::all();
    let document = Bytes::from(openapi::document(&endpoints).to_string());
    let app = App::new(control, token.clone(), document, stop);
    let of_the_api = endpoints
        .into_iter()
        .fold(Router::new(), |router, endpoint| router.route(endpoint.path, endpoint.handler));
    of_the_api
        .route("/", get(dashboard::page))
        .route("/dashboard.js", get(dashboard::script))
        .route("/devices.js", get(dashboard::devices))
        .route("/dashboard.css", get(dashboard::style))
        .fallback(nothing_here)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(token, auth::check))
        .layer(from_fn(kept_by_nobody))
        .with_state(app)
}

async fn nothing_here(uri: Uri) -> Problem {
    Problem::not_found(uri.path())
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("{} cannot be asked for with {method}", uri.path()))
}

/// What an answer says is private, and old a moment later.
async fn kept_by_nobody(request: Request, next: Next) -> Response {
    use axum::http::{HeaderValue, header};
    let mut response = next.run(request).await.into_response();
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
