//! Which routes take a reading. Pure: a new set of routes is a new router.

use std::collections::HashMap;
use std::sync::Arc;

use sandbar_reading::{Inbound, Name, TopicTree};

use crate::route::Route;

/// Finds the routes that take a reading, at a cost that grows with those that do and not with those that are.
#[derive(Default)]
pub struct Router {
    by_name: HashMap<Name, Arc<Route>>,
    /// Every route is in one place only: under its devices if its filter names some, else under its
    /// ingresses, else anywhere.
    by_device: HashMap<Box<str>, Place>,
    by_ingress: HashMap<Name, Place>,
    anywhere: Place,
}

#[derive(Default)]
struct Place {
    by_topic: TopicTree<Arc<Route>>,
    /// Those without a topic filter: unlike `#` they also take topics that begin with `$`.
    any_topic: Vec<Arc<Route>>,
}

impl Router {
    pub fn new(routes: impl IntoIterator<Item = Arc<Route>>) -> Self {
        let mut router = Self::default();
        for route in routes {
            router.add(&route);
            router.by_name.insert(route.name.clone(), route);
        }
        router
    }

    fn add(&mut self, route: &Arc<Route>) {
        let filter = &route.filter;
        if !filter.devices.is_empty() {
            for device in &filter.devices {
                self.by_device.entry(device.clone()).or_default().add(route);
            }
        } else if !filter.ingresses.is_empty() {
            for ingress in &filter.ingresses {
                self.by_ingress.entry(ingress.clone()).or_default().add(route);
            }
        } else {
            self.anywhere.add(route);
        }
    }

    pub fn route(&self, name: &str) -> Option<&Arc<Route>> {
        self.by_name.get(name)
    }

    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.by_name.values()
    }

    /// The routes that take `inbound` from `ingress`, each once, by name. A route never takes its own messages.
    pub fn matches(&self, ingress: &Name, inbound: &Inbound) -> Vec<&Arc<Route>> {
        let places = [
            Some(&self.anywhere),
            self.by_ingress.get(ingress),
            inbound.device.as_deref().and_then(|device| self.by_device.get(device)),
        ];
        let mut found = Vec::new();
        for place in places.into_iter().flatten() {
            found.extend(place.any_topic.iter().filter(|route| agrees(route, ingress, inbound)));
            place.by_topic.matches(&inbound.topic, |route| {
                if agrees(route, ingress, inbound) {
                    found.push(route);
                }
            });
        }
        // A route is found twice when two of its topics match.
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        found.dedup_by(|a, b| a.name == b.name);
        found
    }
}

impl Place {
    fn add(&mut self, route: &Arc<Route>) {
        if route.filter.topics.is_empty() {
            self.any_topic.push(route.clone());
        }
        for topic in &route.filter.topics {
            self.by_topic.insert(topic, route.clone());
        }
    }
}

/// What a place does not decide.
fn agrees(route: &Route, ingress: &Name, inbound: &Inbound) -> bool {
    route.filter.objects(&route.name, ingress, &inbound.content_type).is_none()
}

#[cfg(test)]
mod tests {
    use sandbar_reading::{ContentType, Lineage, Reading, ReadingId, Timestamp, TopicFilter};

    use super::*;
    use crate::route::{Attempts, Filter};

    fn route(name: &str, filter: Filter) -> Arc<Route> {
        Arc::new(Route {
            name: name.parse().unwrap(),
            filter,
            key: crate::Key::Device,
            handler: None,
            version: 0,
            candidate: None,
            sinks: Vec::new(),
            reply: crate::Replying::Nobody,
            attempts: Attempts::default(),
            concurrency: 1,
            batch: 64,
        })
    }

    fn topics(texts: &[&str]) -> Vec<TopicFilter> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// The routes that take it now; whoever asks later what they take (a replay, a try, the trace) is told the same.
    fn matched(router: &Router, ingress: &str, topic: &str, device: Option<&str>) -> Vec<String> {
        let inbound = Inbound {
            device: device.map(Into::into),
            ..Inbound::new(topic.parse().unwrap(), ContentType::JSON, "".into())
        };
        let ingress = Name::parse_ingress(ingress).unwrap();
        let matched: Vec<_> =
            router.matches(&ingress, &inbound).iter().map(|route| route.name.to_string()).collect();
        let Inbound { topic, device, content_type, attributes, payload, .. } = inbound;
        let reading = Reading {
            id: ReadingId::from_u128(1),
            ingress,
            topic,
            device,
            time: Timestamp::default(),
            content_type,
            attributes,
            payload,
            lineage: Lineage::default(),
        };
        for route in router.routes() {
            let objection = route.filter.objection(&route.name, &reading);
            assert_eq!(objection.is_none(), matched.contains(&route.name.to_string()), "{objection:?}");
        }
        matched
    }

    #[test]
    fn every_part_of_a_filter_must_agree() {
        let router = Router::new([
            route("all", Filter::default()),
            route("kitchen", Filter { topics: topics(&["+/kitchen/#", "#"]), ..Filter::default() }),
            route("web", Filter { ingresses: vec!["web".parse().unwrap()], ..Filter::default() }),
            route(
                "one",
                Filter {
                    devices: vec!["d1".into(), "d2".into()],
                    ingresses: vec!["web".parse().unwrap()],
                    topics: topics(&["sensors/#"]),
                    ..Filter::default()
                },
            ),
            route("pictures", Filter { content_types: vec!["image/*".into()], ..Filter::default() }),
        ]);
        assert_eq!(matched(&router, "web", "sensors/kitchen", Some("d2")), ["all", "kitchen", "one", "web"]);
        assert_eq!(matched(&router, "tcp", "sensors/kitchen", Some("d2")), ["all", "kitchen"]);
        assert_eq!(matched(&router, "tcp", "$SYS/load", None), ["all"]);
    }

    #[test]
    fn that_a_device_came_is_for_routes_that_say_so() {
        let of = |ingress: &str| Filter { ingresses: vec![ingress.parse().unwrap()], ..Filter::default() };
        let router = Router::new([
            route("all", Filter::default()),
            route("any", Filter { topics: topics(&["#", "+/+/presence"]), ..Filter::default() }),
            route("by-topic", Filter { topics: topics(&["devices/+/presence"]), ..Filter::default() }),
            route("by-ingress", of("devices")),
            route("other", of("web")),
        ]);
        let topic = "devices/d1/presence";
        assert_eq!(matched(&router, "devices", topic, Some("d1")), ["by-ingress", "by-topic"]);
        assert_eq!(matched(&router, "web", topic, Some("d1")), ["all", "any", "by-topic", "other"]);
    }

    #[test]
    fn a_route_does_not_take_its_own_messages() {
        let router = Router::new([route("a", Filter::default()), route("b", Filter::default())]);
        assert_eq!(matched(&router, "route/a", "x", None), ["b"]);
    }
}
