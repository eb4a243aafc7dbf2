//! The API as its clients see it, on a real host.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod auth;
mod document;
mod errors;
mod modules;
mod readings;
mod server;
mod support;
mod trials;
