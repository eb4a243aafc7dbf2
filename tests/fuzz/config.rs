//! Configuration files.

use sandbar_tests::targets::config;

use crate::fuzz;
use crate::scribble::scribble;

#[test]
fn a_configuration_is_read_or_refused_with_a_line_that_it_has() {
    let files = config::files();
    let seeds: Vec<&str> = files.iter().map(String::as_str).collect();
    for seed in &seeds {
        assert!(config::file(seed), "what is scribbled in is valid: {seed}");
    }
    let mut read = 0;
    fuzz(|random| scribble(random, &seeds), |text| read += usize::from(config::file(text)));
    assert!(read > 0, "every text was refused");
}

#[test]
fn tables_of_any_json_are_read_or_refused_by_name() {
    fuzz(
        |random| scribble(random, &config::TABLES),
        |text| {
            config::tables(text);
        },
    );
}
