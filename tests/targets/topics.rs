//! Topics and filters, against another way of telling what matches what.

use sandbar_reading::{Topic, TopicFilter, TopicTree};

/// Bytes of a topic (MQTT 5.0, section 1.5.4).
const LENGTH_MAX: usize = 65_535;
const LEVELS_MAX: usize = 256;

/// A topic, and filters, one a line.
pub const LINES: [&str; 4] = [
    "a/b/c\na/+/c\na/#\n#\na/b/c\n+/+/+\na/b",
    "$sys/a\n$sys/#\n#\n+/a\n$sys/+",
    "/\n/+\n+/+\n/#",
    "a//é\na/+/é\na//#",
];

#[derive(Default)]
pub struct Compared {
    pub filters: usize,
    pub matched: usize,
}

/// Of the topic in the first line with the filters in the others. The tree of them finds the same.
pub fn compare(text: &str) -> Compared {
    let mut lines = text.split('\n');
    let topic = lines.next().unwrap_or_default();
    let mut compared = Compared::default();
    let Ok(parsed) = topic.parse::<Topic>() else {
        let is_too_deep = topic.split('/').count() > LEVELS_MAX;
        assert!(
            topic.is_empty() || topic.contains(['+', '#', '\0']) || topic.len() > LENGTH_MAX || is_too_deep
        );
        return compared;
    };
    assert_eq!(parsed.as_str(), topic);
    let mut tree = TopicTree::<usize>::default();
    let mut expected = Vec::new();
    for (index, filter) in lines.enumerate() {
        let Ok(parsed_filter) = filter.parse::<TopicFilter>() else { continue };
        assert_eq!(parsed_filter.to_string(), filter);
        let hidden = topic.starts_with('$') && filter.starts_with(['+', '#']);
        let is_match =
            !hidden && matches(&filter.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>());
        assert_eq!(parsed_filter.matches(&parsed), is_match, "{filter} and {topic}");
        compared.filters += 1;
        if is_match {
            compared.matched += 1;
            expected.push(index);
        }
        tree.insert(&parsed_filter, index);
    }
    let mut found = Vec::new();
    tree.matches(&parsed, |index| found.push(*index));
    found.sort_unstable();
    assert_eq!(found, expected, "{topic}");
    compared
}

/// As the standard says it (MQTT 5.0, section 4.7), level by level.
fn matches(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) => true,
        ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => matches(filter, topic),
        ([wanted, filter @ ..], [level, topic @ ..]) => wanted == level && matches(filter, topic),
        _ => false,
    }
}
