mod change;
pub use change::*;
