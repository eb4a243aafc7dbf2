//! TLS for drivers and sinks that connect, and the PEM files that those who listen read too. Errors name the setting.

mod client;
mod pem;

pub use client::{ClientTls, Connector};
pub use pem::{Written, certificates, private_key, roots, written};
