//! The HTTP API of a running host, its OpenAPI document, its metrics and its dashboard.
//!
//! `endpoints.rs` is the list of all there is; the router and the document are made from it. The way of a
//! request: [`serve`] → `auth.rs` → `extract.rs` (paths, queries, bodies) → `resources/` (asks the host) →
//! `convert.rs` (what the host has inside becomes [`views`]). Every error on the way is a
//! [`Problem`](views::Problem). It can do nothing that [`Control`](sandbar_control::Control) cannot.

use std::io;

use sandbar_control::Control;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

mod app;
mod auth;
mod body;
mod convert;
mod convert_devices;
mod convert_trials;
mod dashboard;
mod endpoint;
mod endpoints;
mod extract;
mod metrics;
mod openapi;
mod params;
mod problem;
mod resources;
mod router;
mod token;
pub mod views;

pub use router::router;
pub use token::Token;

const CONNECTIONS_MAX: usize = 512;

/// Answers requests until `stop`; then those under way are finished.
pub async fn serve(
    listener: TcpListener,
    control: Control,
    token: Token,
    stop: CancellationToken,
) -> io::Result<()> {
    // What is watched ends with `stop` too.
    let router = router(control, token, stop.clone());
    // The start, and the API's description as a tree, took more than what follows does.
    sandbar_control::heap::give_back();
    sandbar_serve::serve(listener, router, CONNECTIONS_MAX, stop).await
}
