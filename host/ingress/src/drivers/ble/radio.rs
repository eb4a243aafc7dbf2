//! The seam between what is heard and who hears it: BlueZ, or a test.

use std::future::Future;

use tokio::sync::mpsc;

use super::decode::Advertisement;
use crate::complaints::Complaints;
use crate::{LinkError, Session};

/// What hears advertisements.
pub(super) trait Radio: Sync {
    /// Tells `ear` what it hears, until that is not possible any more. Dropped, it stops at once.
    fn listen(&self, ear: Ear) -> impl Future<Output = LinkError> + Send;
}

/// How many advertisements may wait; what comes then is missed, as it is when nobody listens.
const WAITING_MAX: usize = 256;

/// Where a radio says what it hears.
pub(super) struct Ear {
    session: Session,
    heard: mpsc::Sender<Advertisement>,
    complaints: Complaints,
}

pub(super) fn ear(session: Session) -> (Ear, mpsc::Receiver<Advertisement>) {
    let (heard, advertisements) = mpsc::channel(WAITING_MAX);
    let complaints = Complaints::new(session.ingress().clone());
    (Ear { session, heard, complaints }, advertisements)
}

impl Ear {
    /// It listens from now on.
    pub(super) fn ready(&self) {
        self.session.ready();
    }

    /// Never waits: a radio that waits would fill the memory of others.
    pub(super) fn hear(&self, advertisement: Advertisement) {
        let address = advertisement.address.clone();
        if self.heard.try_send(advertisement).is_err() {
            let about = "advertisements are missed: the disk takes readings too slowly";
            self.complaints.note("missed", address, about, self.session.now());
        }
    }
}
