//! TLS for drivers and sinks that connect, the PEM files that those who listen read too, and what is made of files that
//! are renewed meanwhile. Errors name the setting.

mod client;
mod pem;
mod renewed;

pub use client::{ClientTls, Connector};
pub use pem::{certificates, private_key, roots};
pub use renewed::Renewed;
