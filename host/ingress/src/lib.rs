//! Ingress: one driver a protocol or device, and what they share.
//!
//! A driver sees a [`Session`] and nothing else of the host. Adding one is a module under `drivers/` and a
//! line in `registry.rs`; the shared contract test (`contract/`) says what it must hold to.

mod bearer;
mod coap;
mod complaints;
mod connections;
#[cfg(any(test, feature = "contract-test"))]
pub mod contract;
#[cfg(any(test, feature = "contract-test"))]
pub mod decoders;
mod devices;
mod driver;
mod drivers;
mod exchange;
mod hand_over;
mod listener;
mod naming;
mod network;
mod notes;
mod offers;
mod patience;
mod pattern;
mod phrase;
mod registry;
mod requester;
mod serial_port;
mod session;
mod stream;
mod supervisor;
mod tls;
mod trace;
mod widen;
mod written;

pub use connections::{Connection, ConnectionEvent, ConnectionStatus, Connections, PeerInfo, TrafficStatus};
pub use devices::{Devices, Joined, Order, OrderContent, orders};
pub use driver::{Driver, LinkError};
pub use notes::{Device, DeviceInfo, DeviceNote, Hold};
pub use offers::{Attachment, CommandError, CommandOffer, Done, Offers, PublicationOffer, Publications};
pub use registry::{AnyDriver, DriverKind, build, kinds};
pub use session::{Accepted, Answer, Figures, Intake, Link, Replies, Session};
pub use supervisor::{LastError, State, Status, Supervised, Supervisor, SupervisorOptions};
