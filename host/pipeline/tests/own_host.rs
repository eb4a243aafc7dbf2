//! Sinks that use the host that they belong to: to publish through an ingress, to command a device, to answer a
//! sender.

#![allow(clippy::unwrap_used, reason = "a test's helpers are tests too")]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use sandbar_ingress::{Accepted, Answer, CommandError, PublicationOffer, Publications};
use sandbar_pipeline::{Attempts, Filter, Key, Offering, Options, Pipeline, Replying, Route};
use sandbar_reading::{Command, ContentType, Delivery, Inbound, Message, SystemClock};
use sandbar_sinks::{AnySink, Cause, DeliveryError, OwnHost, Progress};
use sandbar_store::simulated::Simulated;
use sandbar_store::{Committer, Store};
use tempfile::TempDir;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(20);

/// Does with a delivery what its topic says.
#[derive(Default)]
struct Through(OnceLock<Arc<dyn OwnHost>>);

impl AnySink for Through {
    fn kind(&self) -> &'static str {
        "through"
    }

    fn connect(&self, own: &Arc<dyn OwnHost>) {
        drop(self.0.set(own.clone()));
    }

    fn deliver<'a>(
        &'a self,
        batch: &'a [Delivery],
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(async move {
            let own = self.0.get().unwrap();
            if batch.iter().all(|delivery| delivery.message.topic.as_str() == "publish") {
                return own.publish(&"broker".parse().unwrap(), batch, progress).await;
            }
            for (at, delivery) in batch.iter().enumerate() {
                match delivery.message.topic.as_str() {
                    "command" => {
                        let command = Command {
                            device: "lamp".into(),
                            name: "on".into(),
                            content_type: ContentType::TEXT,
                            payload: delivery.message.payload.clone(),
                        };
                        own.command(command, delivery.id).await.map_err(|unsent| unsent.at(at))?;
                    }
                    "refuse" => {
                        return Err(DeliveryError::Reject { rejected: at, cause: Cause::new("not that") });
                    }
                    _ => {
                        let message = Message { payload: "pong".into(), ..delivery.message.clone() };
                        own.reply(delivery, message);
                    }
                }
            }
            Ok(())
        })
    }
}

async fn pipeline(reply: Replying) -> (Pipeline, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(
        Arc::new(Simulated::new(1)),
        folder.path().into(),
        sandbar_store::Options::default(),
        Arc::new(SystemClock),
        Committer::Task,
    )
    .unwrap();
    let pipeline = Pipeline::start(store, Arc::new(SystemClock), Options::default()).unwrap();
    let offering = Offering { first_wait: Duration::from_millis(1), ..Offering::default() };
    pipeline.set_sink("out".parse().unwrap(), Arc::new(Through::default()), offering).await;
    pipeline.set_routes(vec![Route {
        name: "r".parse().unwrap(),
        filter: Filter::default(),
        key: Key::Device,
        handler: None,
        sinks: vec!["out".parse().unwrap()],
        reply,
        attempts: Attempts::default(),
        concurrency: 1,
        batch: 64,
        version: 1,
        candidate: None,
    }]);
    (pipeline, folder)
}

async fn send(pipeline: &Pipeline, topic: &str) -> Accepted {
    let inbound = Inbound::new(topic.parse().unwrap(), ContentType::TEXT, "ping".into());
    pipeline.intake().accept("in".parse().unwrap(), inbound, Vec::new()).await.unwrap()
}

async fn next(publications: &mut Publications) -> PublicationOffer {
    timeout(LONG, publications.next()).await.unwrap().unwrap()
}

fn accepted(pipeline: &Pipeline) -> u64 {
    pipeline.outlets().iter().map(|outlet| outlet.accepted).sum()
}

async fn wait(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, waiting).await.unwrap();
}

#[tokio::test]
async fn what_a_sink_publishes_is_offered_to_the_ingress_until_it_takes_it() {
    let (pipeline, _folder) = pipeline(Replying::Nobody).await;
    // Nobody takes it yet: it waits.
    send(&pipeline, "publish").await;
    let mut publications = pipeline.intake().publications(&"broker".parse().unwrap());
    let first = next(&mut publications).await;
    let id = first.id;
    first.fail(CommandError::Retry("full".to_owned()));
    let again = next(&mut publications).await;
    assert_eq!((again.id, &again.message.payload[..]), (id, &b"ping"[..]));
    again.acknowledge();
    wait(|| accepted(&pipeline) == 1).await;
    pipeline.stop().await;
}

#[tokio::test]
async fn what_waits_for_an_ingress_is_offered_at_once_and_what_it_took_behind_a_refusal_not_again() {
    let (pipeline, _folder) = pipeline(Replying::Nobody).await;
    let mut publications = pipeline.intake().publications(&"broker".parse().unwrap());
    send(&pipeline, "publish").await;
    let first = next(&mut publications).await;
    for _ in 0..9 {
        send(&pipeline, "publish").await;
    }
    wait(|| pipeline.route_counts(&"r".parse().unwrap()).is_some_and(|counts| counts.outputs == 10)).await;
    // From the store to the queue.
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.acknowledge();
    let mut offers = Vec::new();
    for _ in 0..9 {
        offers.push(next(&mut publications).await);
    }
    let ids: Vec<_> = offers.iter().map(|offer| offer.id).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    for (at, offer) in offers.into_iter().enumerate() {
        match at {
            2 => offer.fail(CommandError::Reject("not that".to_owned())),
            5 => offer.fail(CommandError::Retry("full".to_owned())),
            _ => offer.acknowledge(),
        }
    }
    let again = next(&mut publications).await;
    assert_eq!(again.id, ids[5]);
    again.acknowledge();
    wait(|| accepted(&pipeline) == 9).await;
    assert!(timeout(Duration::from_millis(50), publications.next()).await.is_err(), "nothing comes twice");
    pipeline.stop().await;
}

#[tokio::test]
async fn a_sink_commands_a_device() {
    let (pipeline, _folder) = pipeline(Replying::Nobody).await;
    let mut lamp = pipeline.intake().attach(&"coap".parse().unwrap(), "lamp");
    send(&pipeline, "command").await;
    let offer = timeout(LONG, lamp.next()).await.unwrap().unwrap();
    assert_eq!((&*offer.command.name, &offer.command.payload[..]), ("on", &b"ping"[..]));
    offer.acknowledge();
    pipeline.stop().await;
}

#[tokio::test]
async fn the_far_end_of_a_sink_answers_the_sender() {
    let (pipeline, _folder) = pipeline(Replying::Sink("out".parse().unwrap())).await;
    let mut replies = send(&pipeline, "ask").await.replies.unwrap();
    let Some(Answer::Reply(message)) = timeout(LONG, replies.next()).await.unwrap() else { panic!() };
    assert_eq!(message.payload, "pong");
    assert_eq!(timeout(LONG, replies.next()).await.unwrap(), None, "nothing more can come");

    let mut replies = send(&pipeline, "refuse").await.replies.unwrap();
    let answer = timeout(LONG, replies.next()).await.unwrap();
    assert_eq!(answer, Some(Answer::Rejected("not that".to_owned())));
    assert_eq!(timeout(LONG, replies.next()).await.unwrap(), None);
    pipeline.stop().await;
}

#[tokio::test]
async fn a_sink_that_does_not_answer_for_its_route_is_not_heard() {
    let (pipeline, _folder) = pipeline(Replying::Nobody).await;
    assert!(send(&pipeline, "ask").await.replies.is_none());
    pipeline.stop().await;
}
