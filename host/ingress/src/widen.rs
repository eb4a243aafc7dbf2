//! Singles as doubles.

/// With the single's own digits, not those of the double next to it: 21.3 is 21.3.
pub(crate) fn widened(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::NAN)
}
