//! The way of one request: from its head to its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use sandbar_reading::ReadingId;

use super::body::{self, Limits};
use super::decode::{content_type, decode};
use super::once::{self, Once, Taken};
use super::paths::{Path, find};
use super::problem::Problem;
use super::reply;
use super::verify::Guard;
use crate::{Answer, Replies, Session};

/// What every request of a session needs.
pub(super) struct Requests {
    pub(super) site: Arc<Site>,
    pub(super) limits: Limits,
    pub(super) session: Session,
}

/// What was made of the settings once.
pub(super) struct Site {
    pub(super) paths: Vec<Path>,
    pub(super) guard: Guard,
    pub(super) idempotency_header: Option<HeaderName>,
    pub(super) reply_timeout: Duration,
    /// Outlives the sessions, as a request of the last one may still be in flight.
    pub(super) once: Arc<Once>,
}

impl Requests {
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) async fn answer(&self, request: Request<Incoming>, peer: &str) -> Response<Full<Bytes>> {
        let (parts, mut body) = request.into_parts();
        match self.take(&parts, &mut body, peer).await {
            Ok(response) => response,
            Err(problem) => {
                let mut response = problem.into_response();
                let kept = tokio::select! {
                    kept = body::skip(&parts.headers, &mut body) => kept,
                    () = self.session.stopped() => false,
                };
                // In HTTP/2 only the request ends.
                if parts.version < Version::HTTP_2 && !kept {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        }
    }

    async fn take(
        &self,
        parts: &Parts,
        body: &mut Incoming,
        peer: &str,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let Site { paths, guard, idempotency_header, .. } = &*self.site;
        let (path, values) = find(paths, &parts.method, parts.uri.path())?;
        guard.check_head(&parts.headers)?;
        let content_type = content_type(&parts.headers, path)?;
        let key = match idempotency_header {
            Some(header) => once::key(header, &parts.headers, parts.uri.path())?,
            None => None,
        };
        let (payload, share) = body::take(body, &self.limits, &self.session).await?;
        guard.check_body(&parts.headers, &payload)?;
        let inbound = decode(path, &values, parts, peer, content_type, payload)?;
        let taken = match key {
            Some(key) => self.site.once.accept(self.session.clone(), key, inbound).await,
            None => self.session.accept(inbound).await.map(Taken::New),
        };
        drop(share);
        match taken.map_err(|refused| Problem::refused(&refused))? {
            Taken::Before(id) => Ok(reply::accepted(path.answer.as_ref(), id)),
            Taken::New(accepted) => {
                let id = accepted.receipt.id();
                match accepted.replies {
                    Some(replies) => self.reply(path, id, replies).await,
                    None => Ok(reply::accepted(path.answer.as_ref(), Some(id))),
                }
            }
        }
    }

    /// What the handler says in time. The reading is taken: when the session stops, the sender learns that.
    async fn reply(
        &self,
        path: &Path,
        id: ReadingId,
        mut replies: Replies,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let taken = || Ok(reply::accepted(path.answer.as_ref(), Some(id)));
        tokio::select! {
            biased;
            answer = replies.settled() => match answer {
                Some(Answer::Reply(message)) => reply::of_handler(id, message),
                Some(Answer::Rejected(why)) => Err(Problem::rejected(id, why)),
                Some(Answer::Retrying(_)) | None => taken(),
            },
            () = tokio::time::sleep(self.site.reply_timeout) => Err(Problem::no_reply(id)),
            () = self.session.stopped() => taken(),
        }
    }
}
