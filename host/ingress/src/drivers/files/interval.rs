//! One file, the whole of it, again and again.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use tokio::time::Instant;

use super::config::Settings;
use super::file;
use super::reader::{Job, Outcome, Read, Reader, blocking};
use super::seen::{self, Entry, Event, Standing};
use crate::{LinkError, Session};

/// What the file is known by.
pub(super) fn key(path: &Path) -> Box<str> {
    path.file_name().unwrap_or_default().to_string_lossy().into()
}

pub(super) async fn run(settings: Arc<Settings>, session: Session) -> Result<(), LinkError> {
    let reader = Reader::new(Arc::clone(&settings), session.clone());
    let mut stopped = pin!(session.stopped());
    let mut due = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => return Ok(()),
            () = tokio::time::sleep_until(due) => {}
        }
        match take(&reader).await? {
            // A file that is being written is whole in a moment.
            Outcome::Unsettled => due = Instant::now() + settings.settle.min(settings.interval),
            Outcome::Later(wait) => due = Instant::now() + wait,
            Outcome::Stopping => return Ok(()),
            Outcome::Done | Outcome::Unread => {
                session.ready();
                let now = Instant::now();
                due = (due + settings.interval).max(now);
            }
        }
    }
}

async fn take(reader: &Reader) -> Result<Outcome, LinkError> {
    let settings = &reader.settings;
    let (path, follow) = (settings.path.clone(), settings.place.follow_links);
    let found = blocking(move || file::look(&path, follow)).await.map_err(|error| reader.failed(error))?;
    let removes = !settings.tidy.is_nothing();
    let Some(signature) = found else {
        // One that was removed comes again.
        return if removes {
            Ok(Outcome::Done)
        } else {
            Err(reader.failed(std::io::ErrorKind::NotFound.into()))
        };
    };
    let key = key(&settings.path);
    if removes && was_read(reader, &key)? == Some(signature) {
        let path = settings.path.clone();
        reader.remove(vec![Read { key, path, signature, event: Event::Interval }]).await;
        return Ok(Outcome::Done);
    }
    let job = Job { key, path: settings.path.clone(), signature, event: Event::Interval, offset: 0 };
    Ok(reader.read(&[job]).await.into_iter().next().unwrap_or(Outcome::Done))
}

/// As what it was read last, if it was to be removed then: before a kill.
fn was_read(reader: &Reader, key: &str) -> Result<Option<file::Signature>, LinkError> {
    let kept = reader.session.kept(&seen::name(key));
    let kept = kept.map_err(|refused| LinkError::new("reading what was kept", refused))?;
    let entry = kept.and_then(|bytes| Entry::read(&bytes));
    Ok(entry.filter(|entry| matches!(entry.standing, Standing::Read { .. })).map(|entry| entry.signature))
}
