//! One call of a collector: its reading is taken, then it is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sandbar_reading::ReadingId;
use tonic::{Request, Response, Status};

use super::answer;
use super::decode::{Naming, decode};
use super::proto::kraken_service_server::KrakenService;
use super::proto::{KrakenRequest, KrakenResponse};
use super::serve::Caller;
use crate::{Answer, Replies, Session, trace};

#[derive(Clone)]
pub(super) struct Collectors {
    pub(super) session: Session,
    pub(super) naming: Arc<Naming>,
    pub(super) reply_timeout: Duration,
}

/// The calls of one connection.
pub(super) struct Calls {
    pub(super) collectors: Collectors,
    /// Whose message has arrived, and that are not answered.
    pub(super) under_way: Arc<AtomicU32>,
}

#[tonic::async_trait]
impl KrakenService for Calls {
    async fn process_kraken_request(
        &self,
        request: Request<KrakenRequest>,
    ) -> Result<Response<KrakenResponse>, Status> {
        let _busy = Busy::begin(&self.under_way);
        let Self { collectors, .. } = self;
        let peer = request.extensions().get::<Caller>().map(|caller| caller.0.to_string());
        let (metadata, _, request) = request.into_parts();
        let collector = request.collector_name.clone();
        let mut inbound = decode(&collectors.naming, request, &peer.unwrap_or_default())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        trace::follow(&mut inbound.attributes, |name| metadata.get(name)?.to_str().ok());
        let accepted =
            collectors.session.accept(inbound).await.map_err(|refused| answer::refused(&refused))?;
        let id = accepted.receipt.id();
        match accepted.replies {
            Some(replies) => collectors.reply(id, &collector, replies).await,
            None => Ok(answer::taken(id)),
        }
    }
}

impl Collectors {
    /// What the handler says in time. The reading is taken: when the session stops, the collector learns that.
    async fn reply(
        &self,
        id: ReadingId,
        collector: &str,
        mut replies: Replies,
    ) -> Result<Response<KrakenResponse>, Status> {
        tokio::select! {
            biased;
            last = replies.settled() => match last {
                Some(Answer::Reply(message)) => Ok(answer::of_handler(id, collector, message)),
                Some(Answer::Rejected(why)) => Err(answer::rejected(why)),
                Some(Answer::Retrying(_)) | None => Ok(answer::taken(id)),
            },
            () = tokio::time::sleep(self.reply_timeout) => Err(answer::no_reply()),
            () = self.session.stopped() => Ok(answer::taken(id)),
        }
    }
}

struct Busy<'a>(&'a AtomicU32);

impl<'a> Busy<'a> {
    fn begin(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
