//! What every request can reach.

use std::sync::Arc;

use bytes::Bytes;
use sandbar_control::Control;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::token::Token;

/// Components that may be on their way at once: each is in memory whole.
const UPLOADS_MAX: usize = 4;
/// Watchers at once.
const TAILS_MAX: usize = 64;

#[derive(Clone)]
pub(crate) struct App {
    pub(crate) control: Control,
    pub(crate) token: Token,
    /// `/openapi.json`.
    pub(crate) document: Bytes,
    pub(crate) uploads: Arc<Semaphore>,
    pub(crate) tails: Arc<Semaphore>,
    /// Ends what would not end by itself.
    pub(crate) stop: CancellationToken,
}

impl App {
    pub(crate) fn new(control: Control, token: Token, document: Bytes, stop: CancellationToken) -> Self {
        let uploads = Arc::new(Semaphore::new(UPLOADS_MAX));
        let tails = Arc::new(Semaphore::new(TAILS_MAX));
        Self { control, token, document, uploads, tails, stop }
    }
}
