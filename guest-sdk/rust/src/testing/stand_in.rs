//! The host of native tests: one a thread, as the tests are.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::bindings::sandbar::handler::state::StateError;
use crate::http::{HttpError, Request, Response};
use crate::log::Level;

/// As the host has them unless a route says otherwise.
const NAME_MAX: usize = 256;
const VALUE_MAX: usize = 256 << 10;
const STATE_MAX: usize = 1 << 20;

/// Values and when each is over, in nanoseconds since the epoch.
pub(super) type Values = BTreeMap<String, (Vec<u8>, Option<u64>)>;

#[derive(Default)]
pub(super) struct StandIn {
    pub(super) settings: Vec<(String, String)>,
    pub(super) values: Values,
    pub(super) logs: Vec<(Level, String)>,
    pub(super) now: u64,
    pub(super) answers: Option<Answers>,
}

/// Who answers requests over HTTP.
pub(super) type Answers = fn(&Request) -> Result<Response, HttpError>;

thread_local! {
    static HOST: RefCell<StandIn> = RefCell::default();
}

pub(super) fn with<T>(work: impl FnOnce(&mut StandIn) -> T) -> T {
    HOST.with_borrow_mut(work)
}

pub(crate) fn setting(key: &str) -> Option<String> {
    with(|host| host.settings.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone()))
}

pub(crate) fn settings() -> Vec<(String, String)> {
    with(|host| host.settings.clone())
}

pub(crate) fn log(level: Level, _context: &str, line: &str) {
    with(|host| host.logs.push((level, line.to_owned())));
}

pub(crate) fn http_send(request: &Request) -> Result<Response, HttpError> {
    let answers = with(|host| host.answers);
    match answers {
        Some(answers) => answers(request),
        None => Err(HttpError::Denied("is not in the route's permissions".to_owned())),
    }
}

pub(crate) fn http_send_all(requests: &[Request]) -> Vec<Result<Response, HttpError>> {
    requests.iter().map(http_send).collect()
}

pub(crate) fn state_get(name: &str) -> Option<Vec<u8>> {
    with(|host| host.live(name).cloned())
}

pub(crate) fn state_set(name: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), StateError> {
    let limit = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    if name.len() > NAME_MAX {
        return Err(StateError::NameTooLong(limit(NAME_MAX)));
    }
    if value.len() > VALUE_MAX {
        return Err(StateError::ValueTooLarge(limit(VALUE_MAX)));
    }
    with(|host| {
        let others: usize =
            host.values.iter().filter(|(kept, _)| *kept != name).map(|(n, (v, _))| n.len() + v.len()).sum();
        if others + name.len() + value.len() > STATE_MAX {
            return Err(StateError::Full(limit(STATE_MAX)));
        }
        let over = ttl_ms.map(|ms| host.now.saturating_add(ms.saturating_mul(1_000_000)));
        host.values.insert(name.to_owned(), (value.to_vec(), over));
        Ok(())
    })
}

pub(crate) fn state_delete(name: &str) {
    with(|host| host.values.remove(name));
}

pub(crate) fn state_names(prefix: &str) -> Vec<String> {
    with(|host| {
        let names = host.values.keys().filter(|name| name.starts_with(prefix) && host.live(name).is_some());
        names.cloned().collect()
    })
}

impl StandIn {
    fn live(&self, name: &str) -> Option<&Vec<u8>> {
        let (value, over) = self.values.get(name)?;
        over.is_none_or(|over| over > self.now).then_some(value)
    }
}
