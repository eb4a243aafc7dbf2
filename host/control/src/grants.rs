//! What a component imports, and what of it a route does not grant. Pure.

use sandbar_reading::Name;

use crate::tables::PermissionsTable;
use crate::views::Version;
use crate::wanted::Wanted;

/// An import that is there and, on these routes, does not do what its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotGranted {
    /// `wasi:http/outgoing-handler@0.2.6`
    pub import: String,
    /// The permission that would grant it; `None` if no route can.
    pub permission: Option<&'static str>,
    /// What happens instead.
    pub instead: &'static str,
    /// The routes that use the module without it; empty while none uses it.
    pub routes: Vec<Name>,
}

struct Guarded {
    prefix: &'static str,
    permission: Option<&'static str>,
    instead: &'static str,
    granted: fn(&PermissionsTable) -> bool,
}

const GUARDED: &[Guarded] = &[
    Guarded {
        prefix: "wasi:http/outgoing-handler@",
        permission: Some("http"),
        instead: "every request is denied",
        granted: |table| !table.http.is_empty(),
    },
    Guarded {
        prefix: "sandbar:handler/http@",
        permission: Some("http"),
        instead: "every request is denied",
        granted: |table| !table.http.is_empty(),
    },
    Guarded {
        prefix: "wasi:clocks/",
        permission: Some("clock"),
        instead: "clocks show the reading's time",
        granted: |table| table.clock,
    },
    Guarded {
        prefix: "wasi:random/",
        permission: Some("random"),
        instead: "random numbers depend on the reading alone",
        granted: |table| table.random,
    },
    Guarded {
        prefix: "wasi:sockets/",
        permission: None,
        instead: "there is no network but HTTP",
        granted: |_| false,
    },
    Guarded {
        prefix: "wasi:filesystem/",
        permission: None,
        instead: "there are no files",
        granted: |_| false,
    },
    Guarded {
        prefix: "wasi:cli/environment@",
        permission: None,
        instead: "there are no arguments and no environment",
        granted: |_| false,
    },
];

/// Of a version of the module `name`, for the routes that use the module.
pub(crate) fn not_granted(wanted: &Wanted, name: &Name, version: &Version) -> Vec<NotGranted> {
    let routes: Vec<_> = wanted.routes_with(name).collect();
    let check = |import: &String| {
        let guarded = GUARDED.iter().find(|guarded| import.starts_with(guarded.prefix))?;
        let without = |route: &&&Name| !(guarded.granted)(&wanted.routes[**route].it.permissions);
        let without: Vec<Name> = routes.iter().filter(without).map(|route| (*route).clone()).collect();
        (routes.is_empty() || !without.is_empty()).then(|| NotGranted {
            import: import.clone(),
            permission: guarded.permission,
            instead: guarded.instead,
            routes: without,
        })
    };
    version.imports.iter().filter_map(check).collect()
}
