//! SUBSCRIBE and UNSUBSCRIBE.

use std::sync::Arc;

use futures::FutureExt;
use sandbar_reading::{StateWrite, Timestamp};

use super::codec::{Qos, Retained, Subscribe, Unsubscribe, Version, Wanted, reason};
use super::connection::{Connection, End, Then, UnderWay};
use super::outgoing::Asked;
use super::packets::told;
use super::rows::{self, SubscriptionRow};
use super::subscriptions::Target;

/// So many retained messages are taken from memory at once: a subscription to very many takes no more.
const FOUND_MAX: usize = 64;

/// What became of one filter of a SUBSCRIBE.
pub(super) struct Granted {
    pub(super) reason: u8,
    /// As the client wrote it.
    text: Box<str>,
    target: Option<Target>,
    wanted: Wanted,
    subscription_id: Option<u32>,
    /// What stood there before.
    before: Option<(Wanted, Option<u32>)>,
    /// The last change of what is retained that was not planned with the subscription.
    until: u64,
}

impl Connection {
    pub(super) fn subscribe(&mut self, subscribe: Subscribe) -> Result<(), End> {
        let Subscribe { id, subscription_id, filters } = subscribe;
        // MQTT 5.0, section 3.8.3.1: no-local makes no sense for a group.
        if filters.iter().any(|(text, wanted)| wanted.no_local && text.starts_with("$share/")) {
            return Err(told(reason::PROTOCOL_ERROR, "no-local on a shared subscription"));
        }
        let granted: Vec<Granted> =
            filters.into_iter().map(|(text, wanted)| self.grant(text, wanted, subscription_id)).collect();
        let client = &self.hold.client;
        let row = |granted: &Granted| {
            let row = SubscriptionRow::of(granted.wanted, granted.subscription_id);
            rows::write(rows::subscription(client.number, &granted.text), &row)
        };
        let keep: Vec<_> = granted.iter().filter(|granted| granted.target.is_some()).map(row).collect();
        let done = (client.stored && !keep.is_empty()).then(|| self.broker.keeper.write(keep).boxed());
        self.later(Then::SubAck { id, granted }, done);
        Ok(())
    }

    fn grant(&self, text: Box<str>, wanted: Wanted, subscription_id: Option<u32>) -> Granted {
        let mut granted = Granted {
            reason: reason::SUCCESS,
            text,
            target: None,
            wanted,
            subscription_id,
            before: None,
            until: 0,
        };
        let target = match Target::parse(&granted.text) {
            Ok(target) => target,
            Err(_) => return Granted { reason: reason::FILTER_INVALID, ..granted },
        };
        let client = &self.hold.client;
        if !client.grants().may_subscribe(&target.filter) {
            return Granted { reason: reason::NOT_AUTHORIZED, ..granted };
        }
        let mut own = client.subscriptions.lock();
        if !own.has_room(&granted.text, self.broker.settings.subscriptions) {
            return Granted { reason: reason::QUOTA, ..granted };
        }
        granted.before = own.insert(granted.text.clone(), wanted, subscription_id);
        drop(own);
        {
            let _order = self.broker.retaining.lock();
            self.broker.subscriptions.write().insert(client, &target, wanted, subscription_id);
            granted.until = self.broker.retained.lock().stamped();
        }
        granted.reason = wanted.qos as u8;
        granted.target = Some(target);
        granted
    }

    /// It could not be stored: everything is as it was, or will be once the store takes something again, which may
    /// have the new row all the same. Returns what to tell.
    pub(super) fn take_back(&mut self, granted: Vec<Granted>, code: u8) -> Vec<u8> {
        let client = Arc::clone(&self.hold.client);
        let mut reasons = Vec::with_capacity(granted.len());
        let mut rows = Vec::new();
        // The last one first: a packet may name a filter twice.
        for Granted { reason, text, target, before, .. } in granted.into_iter().rev() {
            let Some(target) = target else {
                reasons.push(reason);
                continue;
            };
            reasons.push(code);
            if self.is_overtaken(&text, before) {
                continue;
            }
            let row = rows::subscription(client.number, &text);
            let mut own = client.subscriptions.lock();
            let mut subscriptions = self.broker.subscriptions.write();
            match before {
                Some((wanted, id)) => {
                    rows.push(rows::write(row, &SubscriptionRow::of(wanted, id)));
                    own.insert(text, wanted, id);
                    subscriptions.insert(&client, &target, wanted, id);
                }
                None => {
                    rows.push(rows::delete(row));
                    own.remove(&text);
                    subscriptions.remove(&client, &target);
                }
            }
        }
        if client.stored {
            self.broker.keeper.soon(rows);
        }
        reasons.reverse();
        reasons
    }

    /// Whether a packet that is still under way has its own word on the filter. It would then bring back, if it is
    /// refused too, what was there before this one.
    fn is_overtaken(&mut self, text: &str, before: Option<(Wanted, Option<u32>)>) -> bool {
        for UnderWay { then, .. } in &mut self.under_way {
            match then {
                Then::SubAck { granted, .. } => {
                    let mut same = granted.iter_mut().filter(|later| later.target.is_some());
                    if let Some(later) = same.find(|later| *later.text == *text) {
                        later.before = before;
                        return true;
                    }
                }
                Then::UnsubAck { gone, .. } if gone.iter().any(|gone| **gone == *text) => return true,
                _ => {}
            }
        }
        false
    }

    /// MQTT 5.0, section 3.3.1.3. A group gets none.
    pub(super) fn send_retained(&self, granted: Vec<Granted>) {
        for Granted { target, wanted, subscription_id, before, until, .. } in granted {
            let Some(Target { group: None, filter }) = target else { continue };
            let sends = match wanted.retained {
                Retained::Always => true,
                Retained::IfNew => before.is_none(),
                Retained::Never => false,
            };
            if sends {
                let asked = Asked { wanted, subscription_id, until, after: None };
                self.hold.client.state().outgoing.ask(filter, asked);
            }
        }
    }

    /// The next few retained messages for new subscriptions, once those before are sent.
    pub(super) fn find_retained(&self, now: Timestamp) {
        let client = &self.hold.client;
        loop {
            let Some((filter, asked)) = client.state().outgoing.next_asked() else { return };
            let found = {
                let mut retained = self.broker.retained.lock();
                if retained.is_under_way(&filter, asked.until) {
                    // It looks again when that is there. What was found now would be older.
                    retained.await_change(client);
                    client.state().outgoing.hold(filter, asked);
                    continue;
                }
                retained.matching(&filter, asked.after.as_ref(), asked.until, FOUND_MAX, now)
            };
            let (wanted, subscription_id, until) = (asked.wanted, asked.subscription_id, asked.until);
            let last = found.get(FOUND_MAX - 1).map(|message| message.topic.clone());
            let mut state = client.state();
            for message in found {
                let own = wanted.no_local && message.publisher == client.number;
                if !own && client.may_receive(&message.topic) {
                    let qos: Qos = wanted.qos.min(message.qos);
                    state.outgoing.add_retained(message, qos, subscription_id);
                }
            }
            state.outgoing.found_for(filter.clone(), asked);
            if last.is_some() {
                state.outgoing.ask(filter, Asked { wanted, subscription_id, until, after: last });
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, unsubscribe: Unsubscribe) {
        let Unsubscribe { id, filters } = unsubscribe;
        let client = Arc::clone(&self.hold.client);
        let mut gone: Vec<Box<str>> = Vec::new();
        let mut remove = |filter: Box<str>| {
            if !client.subscriptions.lock().remove(&filter) {
                return reason::NO_SUBSCRIPTION_EXISTED;
            }
            if let Ok(target) = Target::parse(&filter) {
                self.broker.subscriptions.write().remove(&client, &target);
                if target.group.is_none() {
                    client.state().outgoing.ask_no_more(&target.filter);
                }
            }
            gone.push(filter);
            reason::SUCCESS
        };
        let mut reasons: Vec<u8> = filters.into_iter().map(&mut remove).collect();
        if self.version == Version::V3 {
            reasons.clear();
        }
        let keep = self.rows_gone(&gone);
        let done = (!keep.is_empty()).then(|| self.broker.keeper.write(keep).boxed());
        self.later(Then::UnsubAck { id, reasons, gone }, done);
    }

    /// It is not said to be done, but nothing goes there any more: nor shall it after a restart.
    pub(super) fn forget_soon(&mut self, mut gone: Vec<Box<str>>) {
        gone.retain(|text| !self.is_overtaken(text, None));
        self.broker.keeper.soon(self.rows_gone(&gone));
    }

    fn rows_gone(&self, gone: &[Box<str>]) -> Vec<StateWrite> {
        let client = &self.hold.client;
        let gone = gone.iter().filter(|_| client.stored);
        gone.map(|text| rows::delete(rows::subscription(client.number, text))).collect()
    }
}
