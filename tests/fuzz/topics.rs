//! Topics and filters, against another way of telling what matches what.

use sandbar_tests::seed::Random;
use sandbar_tests::targets::topics::compare;

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

#[test]
fn filters_match_what_the_standard_says_and_the_tree_finds_the_same() {
    let (mut filters, mut matched) = (0, 0);
    fuzz(lines, |text| {
        let compared = compare(text);
        filters += compared.filters;
        matched += compared.matched;
    });
    assert!(matched > 100 && filters > 2 * matched, "{matched} of {filters} matched");
}
