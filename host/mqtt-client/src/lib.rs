//! A client's side of MQTT 3.1.1 and 5.0: packets, the link to a broker, and the settings that lead there.
//!
//! The `mqtt` sink and the `mqtt-client` ingress share it, since neither crate may know the other. It decides
//! nothing of what an acknowledgement means: whoever drives the [`Link`] does.

mod broker;
pub mod codec;
mod link;
pub mod reason;
mod template;

pub use broker::{Broker, BrokerConfig, QosLevel};
pub use codec::{Packet, Properties, Publish, Qos, Version};
pub use link::{Link, LinkLost, OpenError, Opened, Session, name};
pub use template::{Template, TemplateError};
