//! A panic within a task ends that task and tells nobody: here it fails the run.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// From now on panics are kept for their thread's run, as well as printed.
pub(crate) fn record() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // The store survives those of its library, and says so by failing.
            if info.location().is_some_and(|location| location.file().contains("redb")) {
                return;
            }
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
            before(info);
        }));
    });
}

/// Those of this thread since the last call.
pub(crate) fn take() -> Vec<String> {
    PANICS.take()
}
