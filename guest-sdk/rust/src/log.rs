//! Lines for the host's log, which adds the route and the reading's id. Formatted as by [`println!`].
//!
//! ```no_run
//! use sandbar_guest::log;
//! let celsius = 85.0;
//! log::warn!("implausible: {celsius} °C");
//! ```

use std::fmt;

use crate::host::log;

pub use crate::bindings::wasi::logging::logging::Level;
pub use crate::{__critical as critical, __debug as debug, __error as error, __info as info};
pub use crate::{__trace as trace, __warn as warn};

/// Writes one line; what the macros of this module call.
///
/// ```no_run
/// use sandbar_guest::log::{Level, write};
/// write(Level::Info, format_args!("started"));
/// ```
pub fn write(level: Level, line: fmt::Arguments<'_>) {
    match line.as_str() {
        Some(line) => log(level, "", line),
        None => log(level, "", &line.to_string()),
    }
}

#[doc(hidden)]
#[macro_export]
macro_rules! __trace {
    ($($arguments:tt)+) => {
        $crate::log::write($crate::log::Level::Trace, ::std::format_args!($($arguments)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($arguments:tt)+) => {
        $crate::log::write($crate::log::Level::Debug, ::std::format_args!($($arguments)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($arguments:tt)+) => {
        $crate::log::write($crate::log::Level::Info, ::std::format_args!($($arguments)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($arguments:tt)+) => {
        $crate::log::write($crate::log::Level::Warn, ::std::format_args!($($arguments)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($arguments:tt)+) => {
        $crate::log::write($crate::log::Level::Error, ::std::format_args!($($arguments)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __critical {
    ($($arguments:tt)+) => {
        $crate::log::write($crate::log::Level::Critical, ::std::format_args!($($arguments)+))
    };
}
