//! From the component's exports to the handler: what [`handler!`](crate::handler) expands to.

use std::cell::OnceCell;

use crate::{Failure, Handler, Output, Reading, log};

/// Exports a [`Handler`] from the component. Once per crate, which must be a `cdylib`.
///
/// ```
/// # use sandbar_guest::prelude::*;
/// struct Nothing;
///
/// impl Handler for Nothing {
///     fn configure() -> Result<Self, String> {
///         Ok(Self)
///     }
///
///     fn handle(&self, _: Reading) -> Result<Vec<Output>, Failure> {
///         Ok(vec![])
///     }
/// }
///
/// sandbar_guest::handler!(Nothing);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! handler {
    ($handler:ty) => {
        const _: () = {
            ::std::thread_local! {
                static HANDLER: ::std::cell::OnceCell<$handler> = const { ::std::cell::OnceCell::new() };
            }

            struct Exported;

            impl $crate::bindings::Guest for Exported {
                fn configure() -> ::std::result::Result<(), ::std::string::String> {
                    HANDLER.with($crate::__private::configure)
                }

                fn handle(
                    reading: $crate::Reading,
                ) -> ::std::result::Result<::std::vec::Vec<$crate::Output>, $crate::Failure> {
                    HANDLER.with(|handler| $crate::__private::handle(handler, reading))
                }
            }

    $crate::bindings::export_handler!(Exported with_types_in $crate::bindings);
        };
    };
}

pub fn configure<H: Handler>(instance: &OnceCell<H>) -> Result<(), String> {
    // A panic's text would go to a standard error stream that no component has.
    std::panic::set_hook(Box::new(|panic| log::critical!("{panic}")));
    let handler = H::configure()?;
    instance.set(handler).map_err(|_| "configure was called twice on one instance".to_owned())
}

pub fn handle<H: Handler>(instance: &OnceCell<H>, reading: Reading) -> Result<Vec<Output>, Failure> {
    match instance.get() {
        Some(handler) => handler.handle(reading),
        None => Err(Failure::retry("handle was called before configure")),
    }
}
