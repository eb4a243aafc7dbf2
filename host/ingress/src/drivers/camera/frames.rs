//! A camera that makes pictures all the time: who wants one asks for the next.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::jpeg::Picture;
use crate::LinkError;

/// Who wants the next picture; it ends when nobody can any more.
pub(super) type Asks = mpsc::Receiver<oneshot::Sender<Picture>>;

pub(super) struct Frames {
    asks: mpsc::Sender<oneshot::Sender<Picture>>,
    /// Nothing once it has said so.
    end: Option<oneshot::Receiver<LinkError>>,
}

/// The camera's end: says why there are no more pictures. Dropped without a word, it was told to stop.
pub(super) type End = oneshot::Sender<LinkError>;

/// A camera that is told to end does so within this, or is left to itself.
const END_WITHIN: Duration = Duration::from_millis(500);

pub(super) fn frames() -> (Frames, Asks, End) {
    let (asks, asked) = mpsc::channel(1);
    let (ending, end) = oneshot::channel();
    (Frames { asks, end: Some(end) }, asked, ending)
}

impl Frames {
    /// The next picture from now on.
    pub(super) async fn next(&mut self) -> Result<Picture, LinkError> {
        let (answer, picture) = oneshot::channel();
        if self.asks.send(answer).await.is_err() {
            return Err(self.lost().await);
        }
        match picture.await {
            Ok(picture) => Ok(picture),
            Err(_) => Err(self.lost().await),
        }
    }

    /// Resolves when there are no more pictures, once. May be dropped and called again.
    pub(super) async fn lost(&mut self) -> LinkError {
        let Some(end) = &mut self.end else { return std::future::pending().await };
        let lost = end.await.unwrap_or_else(|_| LinkError::ended("taking pictures panicked"));
        self.end = None;
        lost
    }

    /// Resolves once the camera is let go of.
    pub(super) async fn close(self) {
        drop(self.asks);
        if let Some(end) = self.end {
            drop(tokio::time::timeout(END_WITHIN, end).await);
        }
    }
}
