//! What a handler may use.

use std::time::Duration;

use wasmtime::ResourceLimiter;

/// Limits of one route's handler. A handler that needs more faults; no other one notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one instance's linear memories and tables. Rust and C need 2 MiB, Go 16, Python 32, SpiderMonkey 128.
    pub memory: usize,
    /// For one call, waiting for the processor included.
    pub time: Duration,
    /// For making an instance: its own start-up and `configure`.
    pub init_time: Duration,
    /// Outputs of one call.
    pub outputs: usize,
    /// Bytes of all outputs of one call.
    pub output_bytes: usize,
    /// Bytes of all names and values of one key.
    pub state_bytes: usize,
    /// Bytes of one value.
    pub value_bytes: usize,
    /// Lines of one call; more are counted.
    pub log_lines: usize,
    /// Bytes of one line; the rest is cut off.
    pub log_line_bytes: usize,
    /// Instances at the same time: those in use and those kept warm.
    pub instances: usize,
    /// An instance that uses more than this many hundredths of `memory` after a call is not used again.
    pub recycle_percent: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            time: Duration::from_secs(1),
            init_time: Duration::from_secs(10),
            outputs: 1000,
            output_bytes: 4 << 20,
            state_bytes: 1 << 20,
            value_bytes: 256 << 10,
            log_lines: 100,
            log_line_bytes: 4 << 10,
            instances: 8,
            recycle_percent: 75,
        }
    }
}

impl Limits {
    /// Bytes that a guest may make the host allocate in one call across the border.
    pub(crate) fn border_bytes(&self) -> usize {
        /// About what one output takes beside its bytes.
        const OUTPUT: usize = 256;
        self.output_bytes.max(self.value_bytes) + self.outputs * OUTPUT + (64 << 10)
    }

    pub(crate) fn recycle_above(&self) -> usize {
        self.memory / 100 * usize::from(self.recycle_percent)
    }
}

/// Counts what one instance holds, over all of its memories and tables.
pub(crate) struct Meter {
    limit: usize,
    used: usize,
    /// The guest asked for more than it may have, since the last call began.
    refused: bool,
}

/// A pointer and its type.
const TABLE_ELEMENT: usize = 16;

impl Meter {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: 0, refused: false }
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }

    pub(crate) fn begin(&mut self) {
        self.refused = false;
    }

    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    fn grow(&mut self, by: usize) -> bool {
        match self.used.checked_add(by).filter(|used| *used <= self.limit) {
            Some(used) => {
                self.used = used;
                true
            }
            None => {
                self.refused = true;
                false
            }
        }
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current)))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT)))
    }

    // One component of many parts (Python has 38) is still one; its memories and tables are counted above.
    fn instances(&self) -> usize {
        256
    }

    fn memories(&self) -> usize {
        64
    }

    fn tables(&self) -> usize {
        256
    }
}
