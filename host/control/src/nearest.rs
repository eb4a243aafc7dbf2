//! What was probably meant.

/// The name that is most like `name`, if one is like it at all.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let best = known.iter().min_by_key(|known| edits(name, known))?;
    (edits(name, best) <= name.chars().count().div_ceil(2).clamp(1, 3)).then_some(*best)
}

/// How many letters to add, drop or change to come from `a` to `b` (Levenshtein's distance).
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.chars().enumerate() {
            let changed = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["alerts", "archive", "m"];
        assert_eq!(nearest("alert", &known), Some("alerts"));
        assert_eq!(nearest("arhcive", &known), Some("archive"));
        assert_eq!(nearest("wbe", &["web", "mqtt"]), Some("web"));
        assert_eq!(nearest("database", &known), None);
        assert_eq!(nearest("alerts", &[]), None);
    }
}
