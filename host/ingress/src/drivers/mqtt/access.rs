//! Who may publish and subscribe to what.

use sandbar_reading::{ConfigError, Topic, TopicFilter};

use super::config::AccessConfig;

/// As configured, with `%c` and `%u` still in it.
#[derive(Debug, Default)]
pub(super) struct Access {
    allow: Vec<AccessConfig>,
    deny: Vec<AccessConfig>,
}

/// What one client may do.
#[derive(Debug, Default)]
pub(super) struct Grants {
    /// `None`: everything.
    allowed: Option<Filters>,
    denied: Filters,
}

#[derive(Debug, Default)]
struct Filters {
    publish: Vec<TopicFilter>,
    subscribe: Vec<TopicFilter>,
}

impl Access {
    pub(super) fn new(allow: Vec<AccessConfig>, deny: Vec<AccessConfig>) -> Result<Self, ConfigError> {
        for (table, rules) in [("allow", &allow), ("deny", &deny)] {
            for (index, rule) in rules.iter().enumerate() {
                for (setting, filters) in [("publish", &rule.publish), ("subscribe", &rule.subscribe)] {
                    for (at, filter) in filters.iter().enumerate() {
                        let setting = format!("{table}[{index}].{setting}[{at}]");
                        filled(filter, "c", Some("u")).ok_or_else(|| {
                            ConfigError::at(setting, format!("`{filter}` is not a topic filter"))
                        })?;
                    }
                }
            }
        }
        Ok(Self { allow, deny })
    }

    pub(super) fn of(&self, client: &str, user: Option<&str>) -> Grants {
        Grants {
            allowed: (!self.allow.is_empty()).then(|| Filters::of(&self.allow, client, user)),
            denied: Filters::of(&self.deny, client, user),
        }
    }
}

impl Filters {
    fn of(rules: &[AccessConfig], client: &str, user: Option<&str>) -> Self {
        let names = |names: &[String], name: Option<&str>| {
            names.is_empty() || name.is_some_and(|name| names.iter().any(|other| other == name))
        };
        let mut own = Self::default();
        for rule in rules.iter().filter(|rule| names(&rule.users, user) && names(&rule.clients, Some(client)))
        {
            own.publish.extend(rule.publish.iter().filter_map(|filter| filled(filter, client, user)));
            own.subscribe.extend(rule.subscribe.iter().filter_map(|filter| filled(filter, client, user)));
        }
        own
    }
}

/// `None` where a name is missing, or would be more than a level or part of one: nobody gets at the topics
/// of others by calling themselves `+`.
fn filled(pattern: &str, client: &str, user: Option<&str>) -> Option<TopicFilter> {
    let mut filter = pattern.to_owned();
    for (mark, name) in [("%c", Some(client)), ("%u", user)] {
        if pattern.contains(mark) {
            let name = name.filter(|name| !name.is_empty() && !name.contains(['+', '#', '/', '%']))?;
            filter = filter.replace(mark, name);
        }
    }
    filter.parse().ok()
}

impl Grants {
    pub(super) fn may_publish(&self, topic: &Topic) -> bool {
        let any = |filters: &[TopicFilter]| filters.iter().any(|filter| filter.matches(topic));
        !is_reserved(topic)
            && self.allowed.as_ref().is_none_or(|allowed| any(&allowed.publish))
            && !any(&self.denied.publish)
    }

    /// Whether it may name a topic for the answer. Who asks listens there itself (MQTT 5.0, section 4.10.1), and is
    /// seldom allowed to publish there: so what it may subscribe to counts, and where it is denied to publish. Without
    /// that, the broker would say at any topic what the client may not say.
    pub(super) fn may_be_answered(&self, topic: &Topic) -> bool {
        !is_reserved(topic)
            && self.may_have(topic)
            && !self.denied.publish.iter().any(|filter| filter.matches(topic))
    }

    /// Whether it may get a message of the topic, by a subscription to it or a wider one.
    pub(super) fn may_have(&self, topic: &Topic) -> bool {
        topic.as_str().parse().is_ok_and(|filter| self.may_subscribe(&filter)) && self.may_receive(topic)
    }

    /// Every topic that `filter` matches must be allowed. Where only some are denied, the subscription stands,
    /// and [`may_receive`](Self::may_receive) keeps those out.
    pub(super) fn may_subscribe(&self, filter: &TopicFilter) -> bool {
        let covered = |filters: &[TopicFilter]| filters.iter().any(|wide| covers(wide, filter));
        self.allowed.as_ref().is_none_or(|allowed| covered(&allowed.subscribe))
            && !covered(&self.denied.subscribe)
    }

    pub(super) fn may_receive(&self, topic: &Topic) -> bool {
        !self.denied.subscribe.iter().any(|filter| filter.matches(topic))
    }
}

/// `$SYS` is the broker's own, and `$share` no topic.
fn is_reserved(topic: &Topic) -> bool {
    topic.as_str().starts_with("$SYS/") || topic.as_str().starts_with("$share/")
}

/// Whether `wide` matches everything that `narrow` does.
fn covers(wide: &TopicFilter, narrow: &TopicFilter) -> bool {
    if narrow.as_str().starts_with('$') && wide.as_str().starts_with(['+', '#']) {
        return false;
    }
    let mut narrow = narrow.levels();
    for level in wide.levels() {
        match (level, narrow.next()) {
            ("#", _) => return true,
            (_, None | Some("#")) => return false,
            ("+", Some(_)) => {}
            (level, Some(other)) if level == other => {}
            _ => return false,
        }
    }
    narrow.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(publish: &[&str], subscribe: &[&str]) -> AccessConfig {
        let own = |filters: &[&str]| filters.iter().map(|&filter| filter.to_owned()).collect();
        AccessConfig { publish: own(publish), subscribe: own(subscribe), ..AccessConfig::default() }
    }

    fn topic(text: &str) -> Topic {
        text.parse().unwrap()
    }

    fn filter(text: &str) -> TopicFilter {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_gets_at_its_own_topics_and_no_others() {
        let access = Access::new(vec![rule(&["d/%c/#"], &["d/%c/+", "u/%u"])], Vec::new()).unwrap();
        let grants = access.of("c1", Some("ann"));
        assert!(grants.may_publish(&topic("d/c1/x")) && !grants.may_publish(&topic("d/c2/x")));
        for (wanted, may) in
            [("d/c1/+", true), ("d/c1/x", true), ("d/c1/#", false), ("d/+/x", false), ("u/ann", true)]
        {
            assert_eq!(grants.may_subscribe(&filter(wanted)), may, "{wanted}");
        }
        for name in ["+", "#", "a/b", ""] {
            let grants = access.of(name, None);
            assert!(
                !grants.may_subscribe(&filter("d/+/x")) && !grants.may_publish(&topic("d/a/b")),
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_denied_is_kept_out_of_wider_subscriptions() {
        let access = Access::new(Vec::new(), vec![rule(&[], &["secret/#"])]).unwrap();
        let grants = access.of("c", None);
        assert!(grants.may_subscribe(&filter("#")) && !grants.may_subscribe(&filter("secret/x")));
        assert!(grants.may_receive(&topic("open")) && !grants.may_receive(&topic("secret/x")));
        assert!(grants.may_publish(&topic("secret/x")));
    }

    #[test]
    fn who_asks_is_answered_where_it_may_listen() {
        let access = Access::new(vec![rule(&["ask", "out/#"], &["answers/%c/#"])], Vec::new()).unwrap();
        let (grants, all) = (access.of("c1", None), Grants::default());
        for (named, may) in
            [("answers/c1/7", true), ("answers/c2/7", false), ("out/1", false), ("ask", false)]
        {
            assert_eq!(grants.may_be_answered(&topic(named)), may, "{named}");
        }
        for reserved in ["$SYS/x", "$share/g/t"] {
            assert!(
                !all.may_be_answered(&topic(reserved)) && !all.may_publish(&topic(reserved)),
                "{reserved}"
            );
        }
        assert!(all.may_be_answered(&topic("any")) && all.may_publish(&topic("$mine/x")));
        let access = Access::new(Vec::new(), vec![rule(&[], &["secret/#"])]).unwrap();
        assert!(!access.of("c", None).may_be_answered(&topic("secret/x")));
    }

    #[test]
    fn rules_are_for_those_they_name() {
        let only = |users: &[&str]| AccessConfig {
            users: users.iter().map(|&user| user.to_owned()).collect(),
            ..rule(&["#"], &["#"])
        };
        let access = Access::new(vec![only(&["ann"])], Vec::new()).unwrap();
        assert!(access.of("c", Some("ann")).may_publish(&topic("t")));
        assert!(!access.of("c", Some("bob")).may_publish(&topic("t")));
        assert!(!access.of("c", None).may_publish(&topic("t")));
    }

    #[test]
    fn names_the_filter_that_is_wrong() {
        let error = Access::new(vec![rule(&["a", "b/#/c"], &[])], Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "allow[0].publish[1]: `b/#/c` is not a topic filter");
    }
}
