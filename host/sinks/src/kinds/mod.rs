//! One file a kind.

pub(crate) mod device;
pub(crate) mod email;
pub(crate) mod file;
pub(crate) mod http;
pub(crate) mod kraken;
pub(crate) mod local_mqtt;
pub(crate) mod log;
pub(crate) mod mongodb;
pub(crate) mod mqtt;
pub(crate) mod redis;
pub(crate) mod sandbar;
pub(crate) mod sql;
pub(crate) mod tcp;
pub(crate) mod websocket;
