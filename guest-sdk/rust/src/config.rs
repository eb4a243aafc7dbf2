//! The settings that the route gives its handler: `[route.NAME.config]`.
//!
//! Read them in [`Handler::configure`](crate::Handler::configure): a text returned from there refuses the deployment, and
//! the texts made here name the setting.

use std::fmt::Display;
use std::str::FromStr;

use crate::host;

/// A setting as text, if it is set.
///
/// ```no_run
/// let unit = sandbar_guest::config::get("unit").unwrap_or_else(|| "C".to_owned());
/// ```
pub fn get(key: &str) -> Option<String> {
    host::setting(key)
}

/// All settings, in the host's order.
///
/// ```no_run
/// for (key, value) in sandbar_guest::config::all() {
///     sandbar_guest::log::debug!("{key} = {value}");
/// }
/// ```
pub fn all() -> Vec<(String, String)> {
    host::settings()
}

/// A setting as a `T`, if it is set.
///
/// ```no_run
/// # fn f() -> Result<(), String> {
/// let limit: Option<u32> = sandbar_guest::config::parse("limit")?;
/// # Ok(()) }
/// ```
pub fn parse<T: FromStr<Err: Display>>(key: &str) -> Result<Option<T>, String> {
    get(key).map(|value| parse_value(key, &value)).transpose()
}

/// A setting as a `T`, or `default` if it is not set.
///
/// ```no_run
/// # fn f() -> Result<(), String> {
/// let decimals: i32 = sandbar_guest::config::parse_or("decimals", 2)?;
/// # Ok(()) }
/// ```
pub fn parse_or<T: FromStr<Err: Display>>(key: &str, default: T) -> Result<T, String> {
    Ok(parse(key)?.unwrap_or(default))
}

/// A setting that must be there.
///
/// ```no_run
/// # fn f() -> Result<(), String> {
/// let high: f64 = sandbar_guest::config::required("high")?;
/// # Ok(()) }
/// ```
pub fn required<T: FromStr<Err: Display>>(key: &str) -> Result<T, String> {
    parse(key)?.ok_or_else(|| format!("setting `{key}` is missing"))
}

fn parse_value<T: FromStr<Err: Display>>(key: &str, value: &str) -> Result<T, String> {
    value.trim().parse().map_err(|error| format!("setting `{key}` is {value:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_setting_that_cannot_be_parsed() {
        let refused = parse_value::<f64>("high", "warm").unwrap_err();
        assert_eq!(refused, r#"setting `high` is "warm": invalid float literal"#);
        assert_eq!(parse_value::<f64>("high", " 8.5 "), Ok(8.5));
    }
}
