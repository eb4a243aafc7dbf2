//! Topics and filters, against another way of telling what matches what.

use sandbar_reading::{Topic, TopicFilter, TopicTree};
use sandbar_tests::seed::Random;

use crate::fuzz;

/// Levels that are alike, so that much of it matches.
fn levels(random: &mut Random) -> String {
    const LEVELS: [&str; 12] = ["a", "b", "+", "#", "", "$sys", "a", "b", "+", "a+", "é", "\0"];
    let count = 1 + random.below(5);
    (0..count).map(|_| random.one_of(&LEVELS)).collect::<Vec<_>>().join("/")
}

/// A topic, and filters, one a line.
fn lines(random: &mut Random) -> String {
    (0..=random.below(8)).map(|_| levels(random)).collect::<Vec<_>>().join("\n")
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

#[test]
fn filters_match_what_the_standard_says_and_the_tree_finds_the_same() {
    let (mut compared, mut matched) = (0, 0);
    fuzz(lines, |text| {
        let mut lines = text.split('\n');
        let topic = lines.next().unwrap_or_default();
        let Ok(parsed) = topic.parse::<Topic>() else {
            assert!(topic.is_empty() || topic.contains(['+', '#', '\0']));
            return;
        };
        assert_eq!(parsed.as_str(), topic);
        let mut tree = TopicTree::<usize>::default();
        let mut expected = Vec::new();
        for (index, filter) in lines.enumerate() {
            let Ok(parsed_filter) = filter.parse::<TopicFilter>() else { continue };
            assert_eq!(parsed_filter.to_string(), filter);
            let hidden = topic.starts_with('$') && filter.starts_with(['+', '#']);
            let is_match = !hidden
                && matches(&filter.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>());
            assert_eq!(parsed_filter.matches(&parsed), is_match, "{filter} and {topic}");
            compared += 1;
            if is_match {
                matched += 1;
                expected.push(index);
            }
            tree.insert(&parsed_filter, index);
        }
        let mut found = Vec::new();
        tree.matches(&parsed, |index| found.push(*index));
        found.sort_unstable();
        assert_eq!(found, expected, "{topic}");
    });
    assert!(matched > 100 && compared > 2 * matched, "{matched} of {compared} matched");
}
