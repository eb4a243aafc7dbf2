//! Listings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A part of a listing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// What to pass as `cursor` to read on; null at the end.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A listing that is never long.
    pub fn all(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}
