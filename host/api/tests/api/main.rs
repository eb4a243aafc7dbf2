//! The API as its clients see it, on a real host.

mod auth;
mod document;
mod errors;
mod modules;
mod readings;
mod server;
mod support;
