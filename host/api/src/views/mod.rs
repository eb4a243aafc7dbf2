//! Requests and answers as JSON: what clients may rely on. What the host has inside is converted at this border.

mod connection;
mod device;
mod host;
mod module;
mod outbox;
mod page;
mod payload;
mod problem;
mod reading;
mod table;
mod trace;
mod trial;

pub use connection::*;
pub use device::*;
pub use host::*;
pub use module::*;
pub use outbox::*;
pub use page::Page;
pub(crate) use payload::attributes_view;
pub use payload::{AttributesView, Json, PayloadView, Values};
pub use problem::{Code, Problem, ProblemType};
pub use reading::{AcceptedView, NewReading, ReadingView};
pub use table::*;
pub use trace::*;
pub use trial::*;
