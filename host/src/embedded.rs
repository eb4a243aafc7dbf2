//! Files of the project that are in the binary, by their paths in it.

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// A file's text.
pub(crate) fn file(path: &str) -> Option<&'static str> {
    FILES.iter().find(|(name, _)| *name == path).map(|(_, text)| *text)
}

/// The files below a folder, which ends with `/`, by their paths in it.
pub(crate) fn below(folder: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().filter_map(move |(name, text)| Some((name.strip_prefix(folder)?, *text)))
}
