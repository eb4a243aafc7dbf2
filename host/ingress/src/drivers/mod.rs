//! One module a driver.

pub(crate) mod simulator;
pub(crate) mod webhook;
