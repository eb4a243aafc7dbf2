//! Faces of other programs: what was made to speak to those speaks to this host unchanged.
//!
//! Each is a listener of its own that asks [`Control`](sandbar_control::Control) like the API does, and hands
//! readings over through a [`Session`](sandbar_control::Session) like a driver.

mod cloud_connector;

pub use cloud_connector::{INGRESS as CLOUD_CONNECTOR_INGRESS, serve as serve_cloud_connector};
