//! One module a driver.

pub(crate) mod simulator;
