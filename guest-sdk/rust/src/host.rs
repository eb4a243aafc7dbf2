//! What the host offers: in a component its imports, in native tests a stand-in of them.

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::stand_in::*;

#[cfg(target_family = "wasm")]
pub(crate) use imports::*;

#[cfg(target_family = "wasm")]
mod imports {
    use crate::bindings::wasi::config::store;
    use crate::bindings::wasi::logging::logging;

    pub(crate) use crate::bindings::sandbar::handler::http::{send as http_send, send_all as http_send_all};
    pub(crate) use crate::bindings::sandbar::handler::state::{
        delete as state_delete, get as state_get, names as state_names, set as state_set,
    };
    pub(crate) use logging::log;

    // The host keeps the settings in memory: they can always be read.
    pub(crate) fn setting(key: &str) -> Option<String> {
        match store::get(key) {
            Ok(value) => value,
            Err(error) => panic!("setting `{key}` cannot be read: {error:?}"),
        }
    }

    pub(crate) fn settings() -> Vec<(String, String)> {
        match store::get_all() {
            Ok(settings) => settings,
            Err(error) => panic!("the settings cannot be read: {error:?}"),
        }
    }
}
