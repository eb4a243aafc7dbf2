//! One module a driver.

pub(crate) mod ble;
pub(crate) mod bravejig;
pub(crate) mod camera;
pub(crate) mod coap;
pub(crate) mod email;
pub(crate) mod files;
pub(crate) mod gps;
pub(crate) mod kraken;
pub(crate) mod modbus;
pub(crate) mod mqtt;
pub(crate) mod mqtt_client;
pub(crate) mod pyaiot;
pub(crate) mod sandbar;
pub(crate) mod schedule;
pub(crate) mod serial;
pub(crate) mod simulator;
pub(crate) mod tcp;
pub(crate) mod udp;
pub(crate) mod webhook;
pub(crate) mod websocket;
