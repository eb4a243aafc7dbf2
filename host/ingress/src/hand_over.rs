//! How drivers whose peers wait for nothing hand a reading over: again and again, until the host takes it.

use std::time::Duration;

use sandbar_reading::{Inbound, Refused, StateWrite, Timestamp};

use crate::{LinkError, Session};

/// How long a refusal that names no time is waited out.
const WAIT: Duration = Duration::from_secs(1);

/// `inbound` makes the reading of the time at which it is offered. False if the session stopped first.
pub(crate) async fn hand_over(
    session: &Session,
    keep: &[StateWrite],
    inbound: impl Fn(Timestamp) -> Inbound,
) -> Result<bool, LinkError> {
    loop {
        let wait = match session.accept_keeping(inbound(session.now()), keep.to_vec()).await {
            Ok(_) => return Ok(true),
            Err(Refused::Busy { retry_after }) => retry_after,
            Err(Refused::DiskFull | Refused::Storage { .. }) => WAIT,
            Err(Refused::Stopping) => return Ok(false),
            Err(refused) => return Err(LinkError::new("handing a reading over", refused)),
        };
        tokio::select! {
            () = session.stopped() => return Ok(false),
            () = tokio::time::sleep(wait) => {}
        }
    }
}
