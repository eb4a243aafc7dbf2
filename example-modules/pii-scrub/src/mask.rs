//! E-mail addresses, IPv4 addresses, card numbers and telephone numbers in texts.

/// The text with a word in the place of each.
pub(crate) fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for piece in text.split_inclusive(separates) {
        let (word, rest) = piece.split_at(piece.trim_end_matches(separates).len());
        let bare = word.trim_end_matches(['.', '!']);
        shown.push_str(match bare {
            bare if is_mail(bare) => "[mail]",
            bare if is_ipv4(bare) => "[ip]",
            bare => bare,
        });
        shown.push_str(&word[bare.len()..]);
        shown.push_str(rest);
    }
    mask_numbers(&shown)
}

/// Also what parts a field from its value, and an address from its port or path.
fn separates(c: char) -> bool {
    c.is_whitespace() || "<>()[]{}\"',;:=/|&?".contains(c)
}

fn is_mail(word: &str) -> bool {
    let Some((local, domain)) = word.rsplit_once('@') else { return false };
    let plain =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || "._%+-".contains(c));
    plain(local)
        && plain(domain)
        && domain.contains('.')
        && !domain.starts_with('.')
        && !domain.ends_with('.')
}

fn is_ipv4(word: &str) -> bool {
    word.parse::<std::net::Ipv4Addr>().is_ok()
}

/// Runs of digits with spaces, dashes and the like between: 13 to 19 digits with a right check digit are a card's,
/// 7 to 15 that begin with + or 0 are a telephone's.
fn mask_numbers(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some(first) = rest.chars().next() {
        let begins = (first.is_ascii_digit() || first == '+')
            && !matches!(before, Some(c) if char::is_alphanumeric(c) || c == '.');
        let run = if begins { run(rest) } else { "" };
        let digits: Vec<u32> = run.chars().filter_map(|c| c.to_digit(10)).collect();
        let ends_word = !rest[run.len()..].starts_with(|c: char| c.is_alphanumeric());
        let mask = match digits.len() {
            13..=19 if ends_word && is_card(&digits) => Some("[card]"),
            7..=15 if ends_word && (run.starts_with('+') || run.starts_with('0')) => Some("[phone]"),
            _ => None,
        };
        let taken = match mask {
            Some(_) => run.len(),
            None => run.len().max(first.len_utf8()),
        };
        shown.push_str(mask.unwrap_or(&rest[..taken]));
        before = rest[..taken].chars().next_back();
        rest = &rest[taken..];
    }
    shown
}

/// Up to the last digit.
fn run(text: &str) -> &str {
    let part = |(at, c): (usize, char)| {
        c.is_ascii_digit() || (at == 0 && c == '+') || (at > 0 && " -/()".contains(c))
    };
    let end = text.char_indices().find(|pair| !part(*pair)).map_or(text.len(), |(at, _)| at);
    let last = text[..end].rfind(|c: char| c.is_ascii_digit()).map_or(0, |at| at + 1);
    &text[..last]
}

/// The check digit (Luhn's).
fn is_card(digits: &[u32]) -> bool {
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| if at % 2 == 1 { doubled(*digit) } else { *digit })
        .sum();
    sum % 10 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_people_is_masked_and_nothing_else() {
        for (text, expected) in [
            ("write to <ada.l+x@example.org>.", "write to <[mail]>."),
            ("Ada (ada@example.org), Bob", "Ada ([mail]), Bob"),
            ("from 192.168.1.20: timeout", "from [ip]: timeout"),
            ("E-mail:ada@example.org", "E-mail:[mail]"),
            ("mailto:ada@example.org?subject=x&user=bob@example.org", "mailto:[mail]?subject=x&user=[mail]"),
            ("192.168.1.20:443|10.0.0.0/8", "[ip]:443|[ip]/8"),
            ("http://10.0.0.7/x", "http://[ip]/x"),
            ("version 1.2.3 of 2026-01-05", "version 1.2.3 of 2026-01-05"),
            ("pay 4111 1111 1111 1111 now", "pay [card] now"),
            ("pay 4111 1111 1111 1112 now", "pay 4111 1111 1111 1112 now"),
            ("call +43 660 1234567 or 0660/1234567", "call [phone] or [phone]"),
            ("serial A0012345678, 21.5 °C, 1024 ppm", "serial A0012345678, 21.5 °C, 1024 ppm"),
            ("", ""),
            ("@ + 0", "@ + 0"),
        ] {
            assert_eq!(masked(text), expected);
        }
    }
}
