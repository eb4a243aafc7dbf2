//! The HTTP API of a running host, its OpenAPI document, its metrics and its dashboard.
//!
//! `endpoints.rs` is the list of all there is; the router and the document are made from it. The way of a
//! request: [`serve`] → `auth.rs` → `extract.rs` (paths, queries, bodies) → `resources/` (asks the host) →
//! `convert.rs` (what the host has inside becomes [`views`]). Every error on the way is a
//! [`Problem`](views::Problem). It can do nothing that [`Control`](sandbar_control::Control) cannot.

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
mod server;
mod token;
pub mod views;

pub use router::router;
pub use server::serve;
pub use token::Token;
