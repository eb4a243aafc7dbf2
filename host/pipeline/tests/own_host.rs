//! Sinks that use the host that they belong to: to publish through an ingress, to command a device, to answer a
//! sender.

#![allow(clippy::unwrap_used, reason = "a test's helpers are tests too")]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use sandbar_ingress::{Accepted, Answer, CommandError};
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
        _: &'a Progress,
    ) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(async move {
            let own = self.0.get().unwrap();
            for (at, delivery) in batch.iter().enumerate() {
                match delivery.message.topic.as_str() {
                    "publish" => {
                        let ingress = "broker".parse().unwrap();
                        own.publish(&ingress, delivery).await.map_err(|unsent| unsent.at(at))?;
                    }
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

#[tokio::test]
async fn what_a_sink_publishes_is_offered_to_the_ingress_until_it_takes_it() {
    let (pipeline, _folder) = pipeline(Replying::Nobody).await;
    // Nobody takes it yet: it waits.
    send(&pipeline, "publish").await;
    let mut publications = pipeline.intake().publications(&"broker".parse().unwrap());
    let first = timeout(LONG, publications.next()).await.unwrap().unwrap();
    let id = first.id;
    first.fail(CommandError::Retry("full".to_owned()));
    let again = timeout(LONG, publications.next()).await.unwrap().unwrap();
    assert_eq!((again.id, &again.message.payload[..]), (id, &b"ping"[..]));
    again.acknowledge();
    let accepted = || pipeline.outlets().iter().map(|outlet| outlet.accepted).sum::<u64>();
    timeout(LONG, async {
        while accepted() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
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
