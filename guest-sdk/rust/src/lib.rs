//! Writing handlers for Sandbar.
//!
//! A handler is a type that implements [`Handler`]; [`handler!`] exports it from the component. `configure` reads
//! the settings once, `handle` is called for every reading and says what to pass on.
//!
//! ```
//! use sandbar_guest::prelude::*;
//!
//! #[derive(serde::Deserialize)]
//! struct Sample {
//!     celsius: f64,
//! }
//!
//! struct Kelvin;
//!
//! impl Handler for Kelvin {
//!     fn configure() -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!
//!     fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
//!         let sample: Sample = reading.json()?;
//!         let kelvin = Message::json("kelvin", &(sample.celsius + 273.15))?;
//!         Ok(vec![kelvin.into()])
//!     }
//! }
//!
//! sandbar_guest::handler!(Kelvin);
//! # fn main() {}
//! ```
//!
//! The payload that is not what `Sample` says is refused by that `?`: the reading becomes a dead letter whose
//! cause names the field. What must last from one reading to the next goes into [`state`]; what the author of
//! the route decides is read from [`config`]; [`log`] writes into the host's log. [`window`], [`Latest`], [`Changed`],
//! [`Deadband`] and [`Rate`] are made of state; [`units`] converts; [`http`] asks others, where the route permits it.
//!
//! `cargo test` runs a handler natively: see [`testing`].

// The macro's code names this crate, also where it is expanded in the crate itself.
extern crate self as sandbar_guest;

mod cbor;
mod change;
pub mod config;
mod export;
mod failure;
mod host;
pub mod http;
mod latest;
pub mod log;
mod object;
mod output;
mod reading;
pub mod state;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod time;
pub mod units;
pub mod window;

pub use bindings::sandbar::handler::types::{Command, Failure, Message, Output, Reading};
pub use change::{Changed, Deadband, Rate};
pub use latest::Latest;
pub use object::Object;
pub use {serde, serde_json};

/// What the contract in `wit/` becomes in Rust.
#[doc(hidden)]
#[allow(clippy::too_many_arguments, reason = "a reading is lowered to that many words")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "handler",
        generate_all,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_handler",
        default_bindings_module: "sandbar_guest::bindings",
    });
}

#[doc(hidden)]
pub mod __private {
    pub use crate::export::{configure, handle};
}

/// What nearly every handler names.
pub mod prelude {
    pub use crate::state::StateCell;
    pub use crate::{Changed, Deadband, Latest, Rate};
    pub use crate::{Command, Failure, Handler, Message, Object, Output, Reading, config, log, state};
}

/// A component's answer to readings.
///
/// The value is made once per instance and is only a cache: instances are discarded at any time, and several of
/// them may serve one route. What must last goes into [`state`].
///
/// ```
/// use sandbar_guest::prelude::*;
///
/// struct Echo;
///
/// impl Handler for Echo {
///     fn configure() -> Result<Self, String> {
///         Ok(Self)
///     }
///
///     fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
///         let echo = Message::new(format!("echo/{}", reading.topic), reading.content_type, reading.payload);
///         Ok(vec![echo.into()])
///     }
/// }
/// ```
pub trait Handler: Sized + 'static {
    /// Reads and checks the settings. A text returned here refuses the deployment, and its author sees it: name
    /// the setting in it, as the functions of [`config`] do.
    fn configure() -> Result<Self, String>;

    /// One attempt at one reading. Outputs and what was written to [`state`] take effect together, or, with an
    /// `Err` or a panic, not at all.
    fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure>;
}
