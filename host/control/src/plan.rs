//! What has to be done to come from what runs to what is wanted. Pure.

use std::collections::BTreeMap;

use sandbar_reading::{ConfigError, Name};

use crate::nearest::nearest;
use crate::tables::{RouteTable, Text};
use crate::views::{Applied, Item};
use crate::wanted::{Owned, Wanted};
use crate::what::What;

/// In this order: sinks, routes, ingresses are set; then in reverse what is gone is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) sinks: Difference,
    pub(crate) modules: Difference,
    pub(crate) routes: Difference,
    pub(crate) ingresses: Difference,
}

/// Names, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) added: Vec<Name>,
    pub(crate) changed: Vec<Name>,
    pub(crate) removed: Vec<Name>,
}

impl Difference {
    fn between<T>(
        old: &BTreeMap<Name, Owned<T>>,
        new: &BTreeMap<Name, Owned<T>>,
        same: impl Fn(&T, &T) -> bool,
    ) -> Self {
        let mut difference = Self::default();
        for (name, new) in new {
            match old.get(name) {
                None => difference.added.push(name.clone()),
                Some(old) if !same(&old.it, &new.it) => difference.changed.push(name.clone()),
                Some(_) => {}
            }
        }
        difference.removed = old.keys().filter(|name| !new.contains_key(*name)).cloned().collect();
        difference
    }

    /// What has to be built.
    pub(crate) fn set(&self) -> impl Iterator<Item = &Name> {
        self.added.iter().chain(&self.changed)
    }
}

impl Plan {
    pub(crate) fn between(old: &Wanted, new: &Wanted) -> Self {
        // A route whose module has another active version needs another handler.
        let same_secrets = |route: &RouteTable| {
            route.permissions.secrets.0.iter().all(|name| old.secrets.get(name) == new.secrets.get(name))
        };
        let same_route = |a: &RouteTable, b: &RouteTable| {
            a == b
                && old.digest_of(a) == new.digest_of(b)
                && old.version_of(a) == new.version_of(b)
                && old.candidate_of(a) == new.candidate_of(b)
                && same_secrets(b)
        };
        Self {
            sinks: Difference::between(&old.sinks, &new.sinks, PartialEq::eq),
            modules: Difference::between(&old.modules, &new.modules, PartialEq::eq),
            routes: Difference::between(&old.routes, &new.routes, same_route),
            ingresses: Difference::between(&old.ingresses, &new.ingresses, PartialEq::eq),
        }
    }

    pub(crate) fn applied(&self) -> Applied {
        let parts = [
            (What::Ingress, &self.ingresses),
            (What::Sink, &self.sinks),
            (What::Module, &self.modules),
            (What::Route, &self.routes),
        ];
        let items = |part: fn(&Difference) -> &Vec<Name>| {
            let one = |(what, names): &(What, &Difference)| {
                let what = *what;
                part(names).iter().map(move |name| Item { what, name: name.clone() }).collect::<Vec<_>>()
            };
            let mut items: Vec<_> = parts.iter().flat_map(one).collect();
            items.sort();
            items
        };
        Applied {
            added: items(|names| &names.added),
            changed: items(|names| &names.changed),
            removed: items(|names| &names.removed),
            at_next_start: Vec::new(),
        }
    }
}

/// A route that names something that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dangling {
    pub(crate) route: Name,
    pub(crate) missing: Item,
    /// Within the route's table.
    pub(crate) error: ConfigError,
}

/// Every name in a route that nothing has, routes by name.
pub(crate) fn dangling(wanted: &Wanted) -> Vec<Dangling> {
    wanted.routes.iter().flat_map(|(route, table)| dangling_in(route, &table.it, wanted)).collect()
}

/// Every name in the route that nothing has.
pub(crate) fn dangling_in(route: &Name, table: &RouteTable, wanted: &Wanted) -> Vec<Dangling> {
    let mut found = Vec::new();
    let mut miss = |setting: String, what: What, name: &Name, known: Vec<&str>| {
        let problem = format!("there is no {what} `{name}`{}", hint(name.as_str(), &known));
        found.push(Dangling {
            route: route.clone(),
            missing: Item { what, name: name.clone() },
            error: ConfigError::at(setting, problem),
        });
    };
    if let Some(Text(module)) = &table.module
        && !wanted.modules.contains_key(module)
    {
        miss("module".to_owned(), What::Module, module, names(&wanted.modules));
    }
    for (index, sink) in table.sinks.0.iter().enumerate() {
        if !wanted.sinks.contains_key(sink) {
            miss(format!("sinks[{index}]"), What::Sink, sink, names(&wanted.sinks));
        }
    }
    for (index, ingress) in table.ingress.0.iter().map(|ingress| &ingress.0).enumerate() {
        let setting = format!("ingress[{index}]");
        match ingress.chained_from() {
            Some(from) if !wanted.routes.contains_key(from) => {
                let name = from.parse().expect("`route/` is followed by a name");
                miss(setting, What::Route, &name, names(&wanted.routes));
            }
            None if ingress.as_str() != crate::API_INGRESS && !wanted.ingresses.contains_key(ingress) => {
                miss(setting, What::Ingress, ingress, names(&wanted.ingresses));
            }
            _ => {}
        }
    }
    found
}

fn names<T>(of: &BTreeMap<Name, T>) -> Vec<&str> {
    of.keys().map(Name::as_str).collect()
}

fn hint(name: &str, known: &[&str]) -> String {
    match (nearest(name, known), known) {
        (Some(nearest), _) => format!("; did you mean `{nearest}`?"),
        (None, []) => "; there are none yet".to_owned(),
        (None, known) if known.len() <= 10 => format!("; there are: {}", known.join(", ")),
        (None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use expect_test::{Expect, expect};

    use super::*;
    use crate::declared::Declared;
    use crate::views::Version;
    use crate::wanted::Module;

    fn wanted(text: &str, modules: &[(&str, &str)]) -> Wanted {
        let declared = Declared::parse(text, Path::new("sandbar.toml")).unwrap();
        let module = |(name, digest): &(&str, &str)| {
            let mut module = Module::new();
            let version = Version {
                version: 0,
                digest: (*digest).to_owned(),
                size: 1,
                uploaded: sandbar_reading::Timestamp::default(),
                imports: Vec::new(),
                signed_by: None,
                never_active: false,
            };
            module.active = module.add(version).version;
            (name.parse().unwrap(), module)
        };
        Wanted::default().with_declared(&declared, &modules.iter().map(module).collect())
    }

    const OLD: &str = r#"
[ingress.web]
driver = "webhook"
[ingress.gone]
driver = "simulator"
[sink.out]
kind = "log"
[route.a]
module = "m"
sinks = "out"
[route.b]
sinks = "out"
[route.c]
"#;

    fn check(new: &Wanted, expected: &Expect) {
        let applied = Plan::between(&wanted(OLD, &[("m", "1")]), new).applied();
        let text = |items: &[Item]| items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        expected.assert_eq(&format!(
            "added: {}; changed: {}; removed: {}",
            text(&applied.added),
            text(&applied.changed),
            text(&applied.removed)
        ));
    }

    #[test]
    fn what_is_the_same_is_left_alone() {
        check(&wanted(OLD, &[("m", "1")]), &expect!["added: ; changed: ; removed: "]);
    }

    #[test]
    fn a_new_version_changes_the_routes_that_use_it() {
        check(&wanted(OLD, &[("m", "2")]), &expect!["added: ; changed: module m, route a; removed: "]);
    }

    #[test]
    fn tables_are_added_changed_and_removed() {
        let new = OLD
            .replace("[ingress.gone]", "[ingress.new]")
            .replace("driver = \"webhook\"", "driver = \"webhook\"\nlisten = \"127.0.0.1:1\"")
            .replace("[route.c]", "[route.d]\nreply = true");
        check(
            &wanted(&new, &[("m", "1")]),
            &expect!["added: route d, ingress new; changed: ingress web; removed: route c, ingress gone"],
        );
    }

    #[test]
    fn what_was_made_through_the_api_stays() {
        let mut with_api = wanted(OLD, &[("m", "1")]);
        let table = RouteTable::default();
        with_api.routes.insert("mine".parse().unwrap(), Owned { declared: false, it: table });
        let nothing = Declared::parse("", Path::new("")).unwrap();
        let left = with_api.with_declared(&nothing, &BTreeMap::new());
        assert_eq!(left.routes.keys().map(Name::as_str).collect::<Vec<_>>(), ["mine"]);
        assert!(left.sinks.is_empty() && left.ingresses.is_empty() && left.modules.is_empty());
    }

    #[test]
    fn names_that_nothing_has_are_found_with_the_nearest_that_something_has() {
        let text = OLD
            .replace(
                "module = \"m\"",
                "module = \"n\"\ningress = [\"api\", \"wbe\", \"route/b\", \"route/zzz\"]",
            )
            .replace("[route.b]\nsinks = \"out\"", "[route.b]\nsinks = [\"out\", \"archive\"]");
        let found: Vec<_> = dangling(&wanted(&text, &[("m", "1")]))
            .into_iter()
            .map(|dangling| format!("{}: {}", dangling.route, dangling.error))
            .collect();
        expect![[r#"
            a: module: there is no module `n`; did you mean `m`?
            a: ingress[1]: there is no ingress `wbe`; did you mean `web`?
            a: ingress[3]: there is no route `zzz`; there are: a, b, c
            b: sinks[1]: there is no sink `archive`; there are: out"#]]
        .assert_eq(&found.join("\n"));
    }
}
