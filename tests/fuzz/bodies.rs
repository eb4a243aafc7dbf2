//! Bodies of requests to the API.

use sandbar_api::views::NewTrial;
use sandbar_tests::targets::bodies::{OTHERS, READINGS, other, reading, round_trips};

use crate::fuzz;
use crate::scribble::scribble;

#[test]
fn a_reading_is_taken_as_it_was_given_or_its_field_is_named() {
    let mut taken = 0;
    fuzz(|random| scribble(random, &READINGS), |text| taken += usize::from(reading(text)));
    assert!(taken > 0, "every reading was refused");
}

/// It was read as the number beside it, and as the next one when it was read again.
#[test]
fn a_number_of_many_digits_stays_itself() {
    assert!(round_trips::<NewTrial>(r#"{"reading":{"topic":"a"},"config":{"a":118446744073709551616.5}}"#));
}

#[test]
fn other_bodies_are_read_or_refused() {
    for body in OTHERS {
        assert!(other(body), "what is scribbled in is valid: {body}");
    }
    fuzz(
        |random| scribble(random, &OTHERS),
        |text| {
            other(text);
        },
    );
}
