//! Handlers: components of the world `sandbar:handler/handler`, compiled, checked, kept warm and called.
//!
//! The way of a call: [`Runtime::load`] checks and compiles a component (or finds its code in the cache);
//! [`Runtime::handler`] links it for a route and tries `configure`; [`Handler::checkout`] gives one instance to one
//! caller; [`Instance::handle`] calls it, within the route's [`Limits`]. A trap costs that instance and nothing
//! else. No other crate names wasmtime.

mod bindings;
mod cache;
mod component;
mod convert;
mod engine;
mod fault;
mod handler;
pub mod heap;
mod host;
mod instance;
mod keyvalue;
mod limits;
mod logs;
mod outgoing;
mod overlay;
mod runtime;
pub mod script;
mod signature;
mod state;
mod stats;
#[cfg(feature = "test-components")]
pub mod test_components;
mod ticker;
mod wasi;

pub use component::{Component, ComponentError};
pub use engine::InstanceMemory;
pub use fault::{Fault, InitError};
pub use handler::{Handler, Permissions, Secrets, Settings};
pub use instance::{Call, Handled, Instance};
pub use limits::Limits;
pub use logs::{LogLevel, LogLine};
pub use outgoing::{AddressRange, AddressRangeError, HttpAccess, HttpAnswer, HttpPermission};
pub use runtime::{Options, Runtime, RuntimeError};
pub use state::{StateUnavailable, StateView};
pub use stats::HandlerStats;
