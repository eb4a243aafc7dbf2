//! Sessions begin, are taken over, wait for their client, and end (MQTT 5.0, section 4.1).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sandbar_reading::{Step, Timestamp};
use tokio::time::{Instant, timeout};

use super::access::Grants;
use super::broker::Broker;
use super::client::{Begin, Client, Link};
use super::codec::reason;
use super::rows;
use super::subscriptions::Target;
use super::timers::{Timer, What};
use super::will::{Will, Withdrawn};

/// What MQTT says for a session that never ends by itself.
pub(super) const NEVER: u32 = u32::MAX;

/// For so long a client waits at its arrival for what its earlier connection left to be done.
const SOON: Duration = Duration::from_secs(2);

/// What a CONNECT asks for.
pub(super) struct Wanted {
    pub(super) id: Box<str>,
    pub(super) user: Option<Box<str>>,
    pub(super) clean: bool,
    pub(super) expiry_s: u32,
    pub(super) grants: Arc<Grants>,
}

/// A connection's hold on a session. Dropped without [`Broker::close`], it is closed without a will.
pub(super) struct Hold {
    pub(super) client: Arc<Client>,
    pub(super) link: Arc<Link>,
    broker: Arc<Broker>,
    /// The session was there before.
    pub(super) present: bool,
    /// Places whose PUBREL is due again, and whether their rows are to be written first.
    pub(super) released: Vec<(u64, bool)>,
    /// The row of a will may be there.
    has_will: bool,
    /// What is to be as it was if the CONNECT comes to nothing.
    before: Before,
}

#[derive(Default)]
struct Before {
    withdrawn: Vec<Withdrawn>,
    expiry_s: Option<u32>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.link.gone.is_cancelled() {
            return;
        }
        let Before { withdrawn, expiry_s } = std::mem::take(&mut self.before);
        let number = self.client.number;
        let is_back = withdrawn.iter().any(|withdrawn| withdrawn.will.by.number == number);
        if let Some(expiry_s) = expiry_s {
            self.client.expiry_s.store(expiry_s, Ordering::Relaxed);
        }
        self.broker.put_back(withdrawn);
        self.broker.close(self, None, self.has_will && !is_back);
    }
}

impl Broker {
    /// Takes the session of a client, or begins one, after whoever holds it was told to let go. `will` makes
    /// the will of the session's number. An error is the reason code for the client.
    pub(super) async fn open(
        self: &Arc<Self>,
        wanted: Wanted,
        will: impl FnOnce(u32) -> Option<Will>,
    ) -> Result<(Hold, Option<Will>), u8> {
        let mut hold = loop {
            let held = match self.claim(&wanted)? {
                Ok(hold) => break hold,
                Err(link) => link,
            };
            held.kick(reason::TAKEN_OVER);
            held.gone.cancelled().await;
        };
        let client = Arc::clone(&hold.client);
        // What is due is told, also of who is back already (MQTT 5.0, section 3.1.4); its row would be the new one's.
        let mut numbers = self.wills.of_ended(&wanted.id, wanted.user.as_deref());
        numbers.push(client.number);
        let settle = async {
            for number in numbers {
                hold.before.withdrawn.extend(self.wills.settle(number, &self.timers).await);
            }
        };
        if timeout(SOON, settle).await.is_err() {
            return Err(reason::SERVER_UNAVAILABLE);
        }
        let will = will(client.number);
        let mut keep = Vec::new();
        if client.stored {
            keep.push(rows::write(rows::session(&client.id), &client.row()));
        }
        let withdrawn = hold.before.withdrawn.iter().map(|withdrawn| withdrawn.will.by.number);
        keep.extend(withdrawn.map(|number| rows::delete(rows::will(number))));
        keep.extend(will.as_ref().map(Will::row));
        hold.has_will = will.is_some();
        // Also what the end of an earlier session deletes is on disk before the client is told.
        if !keep.is_empty() || wanted.clean && self.keeper.is_behind() {
            self.keeper.write(keep).await.map_err(|_| reason::SERVER_UNAVAILABLE)?;
        }
        hold.before = Before::default();
        Ok((hold, will))
    }

    /// The inner error is the link that holds the session.
    fn claim(self: &Arc<Self>, wanted: &Wanted) -> Result<Result<Hold, Arc<Link>>, u8> {
        let link = Link::new();
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(&wanted.id).cloned() {
            let is_own = client.user == wanted.user;
            let mut state = client.state();
            match state.link() {
                Some(held) if is_own => return Ok(Err(Arc::clone(held))),
                // Where clients have names now that had none, nobody's session is not to keep them out.
                None if is_own || client.user.is_none() => {}
                _ => return Err(reason::NOT_AUTHORIZED),
            }
            // Its time may be over, and its end not have come to pass: after a start.
            if wanted.clean || !is_own || state.is_over() {
                drop(state);
                if !is_own {
                    let (ingress, client) = (self.session.ingress(), &*wanted.id);
                    tracing::info!(%ingress, client, "a session without a user gives way to a client that has one");
                }
                self.end(&mut clients, &client);
            } else {
                let released = state.take(Arc::clone(&link));
                if let Some(timer) = state.ends.take() {
                    self.timers.cancel(timer);
                }
                drop(state);
                let expiry_s = Some(client.expiry_s.swap(wanted.expiry_s, Ordering::Relaxed));
                client.set_grants(Arc::clone(&wanted.grants));
                let (broker, before) = (Arc::clone(self), Before { expiry_s, ..Before::default() });
                return Ok(Ok(Hold {
                    client,
                    link,
                    broker,
                    present: true,
                    released,
                    has_will: false,
                    before,
                }));
            }
        }
        if clients.len() >= self.settings.sessions_max && !self.end_longest_absent(&mut clients) {
            return Err(reason::QUOTA);
        }
        let begin = Begin {
            id: wanted.id.clone(),
            number: self.number(),
            user: wanted.user.clone(),
            expiry_s: wanted.expiry_s,
            stored: wanted.expiry_s > 0,
            next_place: 0,
            absent_since: None,
        };
        let (grants, room) = (Arc::clone(&wanted.grants), self.settings.room);
        let client = Client::new(begin, grants, room, &self.absent_bytes);
        client.state().take(Arc::clone(&link));
        clients.insert(wanted.id.clone(), Arc::clone(&client));
        let (broker, before) = (Arc::clone(self), Before::default());
        Ok(Ok(Hold { client, link, broker, present: false, released: Vec::new(), has_will: false, before }))
    }

    /// False if all have their connections.
    fn end_longest_absent(&self, clients: &mut HashMap<Box<str>, Arc<Client>>) -> bool {
        let absent = clients.values().filter_map(|client| Some((client.state().absent_since()?, client)));
        let Some((_, client)) = absent.min_by_key(|(since, _)| *since) else { return false };
        let client = Arc::clone(client);
        let about = "sessions_max is reached: the session longest without a connection is ended";
        self.complaints.note("session ended", &client.id, about, self.session.now());
        self.end(clients, &client);
        true
    }

    /// The connection is gone. `will` is published now or after its delay; without one, that of the CONNECT is
    /// forgotten.
    pub(super) fn close(self: &Arc<Self>, hold: &Hold, will: Option<Will>, had_will: bool) {
        let client = &hold.client;
        let now = self.session.now();
        let expiry_s = client.expiry_s.load(Ordering::Relaxed);
        match will {
            Some(will) => {
                let wait = Duration::from_secs(will.delay_s.min(expiry_s).into());
                self.await_will(will, wait);
            }
            None if had_will => self.keeper.soon([rows::delete(rows::will(client.number))]),
            None => {}
        }
        let mut clients = self.clients.lock();
        client.state().let_go(now);
        if expiry_s == 0 {
            self.end(&mut clients, client);
        } else {
            self.keeper.soon([rows::write(rows::session(&client.id), &client.row())]);
            self.expire_after(client, expiry_s, now);
        }
        drop(clients);
        self.make_room();
        hold.link.gone.cancel();
    }

    pub(super) fn expire_after(&self, client: &Arc<Client>, expiry_s: u32, since: Timestamp) {
        if expiry_s != NEVER {
            let passed = self.session.now().since(since);
            let wait = Duration::from_secs(expiry_s.into()).saturating_sub(passed);
            let timer = self.timers.add(wait, What::End(Arc::downgrade(client)));
            client.state().ends = Some(timer);
        }
    }

    /// `timer` is due, which may be that of an earlier absence.
    pub(super) fn end_if_absent(&self, client: &Arc<Client>, timer: Timer) {
        let mut clients = self.clients.lock();
        let state = client.state();
        let still = state.link().is_none() && state.ends == Some(timer) && !state.has_ended();
        drop(state);
        if still {
            self.end(&mut clients, client);
        }
    }

    /// Whoever counts by the clock, after the next start, is not to count what it was set forward by. Of times before
    /// its own start the broker does not know whether the clock was right.
    pub(super) fn look_at_clock(&self) {
        let now = self.session.now();
        let Some(Step::Forward(by)) = self.steps.lock().look(now, Instant::now().into_std()) else { return };
        let clients: Vec<_> = self.clients.lock().values().cloned().collect();
        for client in clients {
            if client.state().clock_was_set(self.began, now.before(by), by) && client.stored {
                self.keeper.soon([rows::write(rows::session(&client.id), &client.row())]);
            }
        }
    }

    fn end(&self, clients: &mut HashMap<Box<str>, Arc<Client>>, client: &Arc<Client>) {
        let (stored, shared) = {
            let mut state = client.state();
            state.end();
            if let Some(timer) = state.ends.take() {
                self.timers.cancel(timer);
            }
            self.count_dropped(std::mem::take(&mut state.outgoing.dropped));
            (state.outgoing.stored(), state.outgoing.take_shared())
        };
        if clients.get(&client.id).is_some_and(|other| Arc::ptr_eq(other, client)) {
            clients.remove(&client.id);
        }
        let own = std::mem::take(&mut *client.subscriptions.lock());
        {
            let mut subscriptions = self.subscriptions.write();
            for filter in own.filters() {
                if let Ok(target) = Target::parse(filter) {
                    subscriptions.remove(client, &target);
                }
            }
        }
        self.hand_over(shared);
        if client.stored {
            let number = client.number;
            let mut gone = vec![rows::delete(rows::session(&client.id))];
            gone.extend(own.filters().map(|filter| rows::delete(rows::subscription(number, filter))));
            gone.extend(client.received.lock().iter().map(|id| rows::delete(rows::packet(number, *id))));
            let doubted = std::mem::take(&mut *client.doubted.lock());
            gone.extend(doubted.keys().map(|id| rows::delete(rows::packet(number, *id))));
            doubted.values().for_each(|plan| self.abandon(plan, true));
            self.keeper.soon(gone);
            self.forget(client, stored);
        }
        self.hasten_will(client.number);
    }
}

#[cfg(test)]
mod tests {
    use sandbar_reading::Refused;
    use serde_json::json;

    use super::super::broker::testing::{broker, broker_of};
    use super::super::codec::{Properties, Qos, Will as Said};
    use super::super::inbound::By;
    use super::*;
    use crate::contract::StandIn;

    fn wanted(clean: bool, expiry_s: u32) -> Wanted {
        Wanted { id: "c".into(), user: None, clean, expiry_s, grants: Arc::default() }
    }

    fn will(number: u32) -> Option<Will> {
        let properties = Properties { will_delay: Some(300), ..Properties::default() };
        let (topic, payload, qos) = ("gone".into(), "x".into(), Qos::AtMostOnce);
        let said = Said { topic, payload, qos, retain: false, properties };
        Will::new(said, By { client: "c".into(), user: None, number })
    }

    fn keep(broker: &Arc<Broker>) {
        let (keeper, session) = (Arc::clone(&broker.keeper), broker.session.clone());
        tokio::spawn(async move { keeper.run(&session).await });
    }

    /// What is due comes to pass meanwhile.
    async fn meanwhile<T>(broker: &Arc<Broker>, future: impl Future<Output = T>) -> T {
        tokio::select! {
            done = future => done,
            () = broker.timers.run(broker) => unreachable!("it never returns"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_and_goes_leaves_no_more_timers_than_who_came_once() {
        let broker = broker(json!({}));
        keep(&broker);
        for _ in 0..3 {
            let (hold, will) = broker.open(wanted(false, 600), will).await.unwrap();
            assert_eq!(broker.timers.count(), 0, "it is here");
            broker.close(&hold, will, true);
            assert_eq!(broker.timers.count(), 2, "its session may end, and its will be published");
        }
        let begin_anew = broker.open(wanted(true, 0), |_| None);
        let _begun_anew = meanwhile(&broker, begin_anew).await.unwrap();
        assert_eq!(broker.timers.count(), 1, "its will was told before it was let in: only a sweep is due");
        assert_eq!(broker.session.kept_names("w").unwrap(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_back_after_a_start_was_not_lost_though_it_has_another_session() {
        let host = StandIn::new();
        for (user, is_its_own) in [(None, true), (Some("ann"), false)] {
            let broker = broker_of(Arc::clone(&host), json!({}));
            let mut left = will(7).unwrap();
            left.by.user = user.map(Into::into);
            broker.session.keep(vec![left.row()]).await.unwrap();
            broker.load().await.unwrap();
            keep(&broker);
            tokio::time::sleep(Duration::from_secs(9)).await;
            let (hold, _) = broker.open(wanted(true, 0), |_| None).await.unwrap();
            assert!(hold.client.number > 7);
            assert_eq!(broker.session.kept_names("w").unwrap().is_empty(), is_its_own);
            meanwhile(&broker, tokio::time::sleep(Duration::from_secs(2))).await;
            assert_eq!(broker.session.kept_names("w").unwrap(), [], "it does not wait for its delay");
            assert_eq!(host.taken().len(), usize::from(!is_its_own));
        }
    }

    /// A box without a clock of its own is told the time after its start.
    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_forward_ends_no_session() {
        let (host, start, leap) =
            (StandIn::new(), Timestamp::from_millis(1_000_000), Duration::from_secs(1_000_000));
        host.start_clock(start);
        let broker = broker_of(Arc::clone(&host), json!({}));
        keep(&broker);
        let (hold, _) = broker.open(wanted(false, 600), |_| None).await.unwrap();
        broker.close(&hold, None, false);
        tokio::time::advance(Duration::from_secs(10)).await;
        host.start_clock(start.after(leap + Duration::from_secs(10)));
        meanwhile(&broker, tokio::time::sleep(Duration::from_secs(61))).await;
        broker.keeper.write(Vec::new()).await.unwrap();
        let row = broker.session.kept(&rows::session("c")).unwrap().unwrap();
        let since = rows::read::<rows::SessionRow>(&row).unwrap().absent_since.unwrap();
        let shifted = Timestamp::from_nanos(since).since(start.after(leap));
        assert!(shifted < Duration::from_secs(1), "{shifted:?}");
        assert!(broker.open(wanted(false, 600), |_| None).await.unwrap().0.present);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_not_let_in_leaves_its_will_as_it_was() {
        let host = StandIn::new();
        let broker = broker_of(Arc::clone(&host), json!({}));
        keep(&broker);
        let (hold, first) = broker.open(wanted(false, 600), will).await.unwrap();
        broker.close(&hold, first, true);
        host.refuse_to_keep(Some(Refused::DiskFull));
        for will in [will as fn(u32) -> Option<Will>, |_| None] {
            assert!(broker.open(wanted(false, 0), will).await.is_err());
            assert_eq!(broker.timers.count(), 2, "its session may end, and its will be published");
        }
        host.refuse_to_keep(None);
        broker.keeper.write(Vec::new()).await.unwrap();
        assert_eq!(broker.session.kept_names("w").unwrap(), [rows::will(hold.client.number)]);
        meanwhile(&broker, tokio::time::sleep(Duration::from_secs(301))).await;
        assert_eq!(host.taken().len(), 1);
    }
}
