//! One file a kind.

pub(crate) mod file;
pub(crate) mod http;
pub(crate) mod local_mqtt;
pub(crate) mod log;
