//! One module a driver.

pub(crate) mod mqtt;
pub(crate) mod simulator;
pub(crate) mod webhook;
