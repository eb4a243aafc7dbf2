//! The HTTP API of a running host, its OpenAPI document, its metrics and its dashboard.

pub mod views;
