//! A batch on its way: what was sent of it, and what was said to it. Pure.

use std::collections::HashMap;

use bytes::Bytes;
use sandbar_reading::relay::{Relayed, Up};
use sandbar_reading::{Delivery, DeliveryId};
use tokio::sync::oneshot;

use crate::{Cause, DeliveryError};

pub(super) struct Offer {
    frames: Vec<Bytes>,
    index: HashMap<DeliveryId, usize>,
    answers: Vec<Option<Answer>>,
    sent: usize,
    answered: usize,
    done: oneshot::Sender<Result<(), DeliveryError>>,
}

enum Answer {
    Taken,
    Refused(Cause),
}

impl Offer {
    pub(super) fn new(batch: &[Delivery], done: oneshot::Sender<Result<(), DeliveryError>>) -> Self {
        Self {
            frames: batch.iter().map(|delivery| Up::Reading(Relayed::of(delivery)).encode()).collect(),
            index: batch.iter().enumerate().map(|(index, delivery)| (delivery.id, index)).collect(),
            answers: batch.iter().map(|_| None).collect(),
            sent: 0,
            answered: 0,
            done,
        }
    }

    /// What is to be sent next, if no more than `window` are on their way.
    pub(super) fn next(&self, window: usize) -> Option<Bytes> {
        (self.sent - self.answered < window).then(|| self.frames.get(self.sent).cloned()).flatten()
    }

    pub(super) fn sent(&mut self) {
        self.sent += 1;
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.sent > self.answered
    }

    /// Resolves when who offered it waits for it no more.
    pub(super) async fn given_up(&mut self) {
        self.done.closed().await;
    }

    pub(super) fn taken(&mut self, id: DeliveryId) {
        self.answer(id, Answer::Taken);
    }

    pub(super) fn refused(&mut self, id: DeliveryId, cause: &str) {
        self.answer(id, Answer::Refused(Cause::new(format!("the central host: {cause}"))));
    }

    /// An answer to something else, offered before, is none.
    fn answer(&mut self, id: DeliveryId, answer: Answer) {
        if let Some(index) = self.index.get(&id)
            && *index < self.sent
            && self.answers[*index].is_none()
        {
            self.answers[*index] = Some(answer);
            self.answered += 1;
        }
    }

    /// Whether all is said. Those after one that was refused are offered again, and known there.
    pub(super) fn is_done(&self) -> bool {
        self.answered == self.frames.len()
    }

    pub(super) fn finish(self) {
        self.end(&Cause::new("it was not answered"));
    }

    /// `cause` is why there are no more answers.
    pub(super) fn end(self, cause: &Cause) {
        let delivered =
            self.answers.iter().take_while(|answer| matches!(answer, Some(Answer::Taken))).count();
        let result = match self.answers.into_iter().nth(delivered) {
            None => Ok(()),
            Some(Some(Answer::Refused(cause))) => Err(DeliveryError::Reject { rejected: delivered, cause }),
            Some(_) => Err(DeliveryError::Retry { delivered, after: None, cause: cause.clone() }),
        };
        // Who gave it up hears nothing.
        drop(self.done.send(result));
    }
}
