//! Times of readings: as text (RFC 3339, in UTC), and of a clock that was set back.

/// What lies further behind what is known is not late: the clock that it is measured by was set back.
pub(crate) const SET_BACK: u64 = 10 * 60 * 1_000_000_000;

/// Whether `time`, in nanoseconds since the epoch, lies more than ten minutes before one that is `known` already. Such
/// a reading is not late: the clock was set back, and what waits for the known time to pass would stand still until
/// the clock is there again. [`Latest`](crate::Latest) asks this itself.
///
/// ```
/// # use sandbar_guest::time::was_set_back;
/// let minutes = |count: u64| count * 60 * 1_000_000_000;
/// assert!(was_set_back(minutes(30), minutes(19)));
/// assert!(!was_set_back(minutes(30), minutes(20)), "it may be late");
/// assert!(!was_set_back(minutes(30), minutes(31)));
/// ```
pub fn was_set_back(known: u64, time: u64) -> bool {
    known.saturating_sub(time) > SET_BACK
}

/// Nanoseconds since the epoch as text, to the millisecond unless it is a whole second.
///
/// ```
/// # use sandbar_guest::time::{parse, rfc3339};
/// assert_eq!(rfc3339(1_709_210_096_500_000_000), "2024-02-29T12:34:56.500Z");
/// assert_eq!(parse("2024-02-29T12:34:56.5Z"), Some(1_709_210_096_500_000_000));
/// ```
pub fn rfc3339(nanoseconds: u64) -> String {
    let (seconds, milliseconds) = (nanoseconds / 1_000_000_000, nanoseconds / 1_000_000 % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March, so that the leap day is the last of one; from year 0 on.
    let since = days + 719_468;
    let (era, of_era) = (since / 146_097, since % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = if milliseconds == 0 { String::new() } else { format!(".{milliseconds:03}") };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Nanoseconds since the epoch of a time in UTC, such as `2026-01-31T12:00:00Z`, with or without a fraction. None for
/// what is no time, such as the 31st of February, or later than 2554.
pub fn parse(time: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| time.get(range).and_then(|part| part.parse::<u64>().ok());
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let rest = time[19..].strip_suffix('Z')?;
    let fraction = match rest.strip_prefix('.') {
        Some(digits) => format!("{digits:0<9}").get(..9)?.parse::<u64>().ok()?,
        None if rest.is_empty() => 0,
        None => return None,
    };
    let days_of_month = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    // A leap second is the 60th.
    if year < 1970 || !(1..=days_of_month).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for time in [
            "1970-01-01T00:00:01Z",
            "2000-03-01T00:00:00Z",
            "2026-01-31T12:00:00.250Z",
            "2000-02-29T23:59:59Z",
            "2100-02-28T23:59:59Z",
        ] {
            assert_eq!(rfc3339(parse(time).unwrap()), time);
        }
        for time in [
            "",
            "noon",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59Z",
        ] {
            assert_eq!(parse(time), None, "{time}");
        }
    }
}
