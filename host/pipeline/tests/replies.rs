//! A reply finds its sender, whatever other routes take the reading too.

#![allow(clippy::unwrap_used, reason = "a test's helpers are tests too")]

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sandbar_ingress::Answer;
use sandbar_pipeline::{Attempts, Filter, Handler, Key, Options, Pipeline, Replying, Route, Sandbox};
use sandbar_reading::{
    ContentType, Failure, Inbound, Message, Output, Reading, SystemClock, Timestamp, TraceContext,
};
use sandbar_runtime::{Call, Fault, Handled, StateView};
use sandbar_store::{Committer, Disk, Store};

/// What a handler does with every reading.
#[derive(Clone)]
enum Does {
    Nothing,
    Reply(&'static str),
    Reject(&'static str),
}

impl Handler for Does {
    fn checkout(&self) -> BoxFuture<'_, Result<Box<dyn Sandbox>, Fault>> {
        Box::pin(async { Ok(Box::new(self.clone()) as Box<dyn Sandbox>) })
    }
}

impl Sandbox for Does {
    fn handle<'a>(
        &'a mut self,
        reading: &'a Reading,
        _: Arc<dyn StateView>,
        _: Timestamp,
        _: Option<TraceContext>,
    ) -> BoxFuture<'a, Call> {
        let result = match self {
            Self::Nothing => Ok(Handled::default()),
            Self::Reply(text) => {
                let message = Message {
                    topic: reading.topic.clone(),
                    device: None,
                    content_type: ContentType::TEXT,
                    attributes: Default::default(),
                    payload: (*text).into(),
                };
                Ok(Handled { outputs: vec![Output::Reply(message)], ..Handled::default() })
            }
            Self::Reject(text) => Err(Fault::Failure(Failure::Reject((*text).to_owned()))),
        };
        Box::pin(async { Call { result, logs: Vec::new(), elapsed: Duration::ZERO } })
    }
}

fn route(name: &str, does: Does, reply: bool) -> Route {
    Route {
        name: name.parse().unwrap(),
        filter: Filter::default(),
        key: Key::default(),
        handler: Some(Arc::new(does)),
        sinks: Vec::new(),
        reply: if reply { Replying::Handler } else { Replying::Nobody },
        attempts: Attempts::default(),
        concurrency: 1,
        batch: 64,
        version: 1,
        candidate: None,
    }
}

/// All answers to one reading that these routes take.
async fn answers(routes: Vec<Route>) -> Option<Vec<Answer>> {
    let folder = tempfile::tempdir().unwrap();
    let medium = Arc::new(Disk::new(folder.path().join("sandbar.redb")));
    let clock = Arc::new(SystemClock);
    let modules = folder.path().join("modules");
    let store = Store::open(medium, modules, Default::default(), clock.clone(), Committer::Thread).unwrap();
    let pipeline = Pipeline::start(store, clock, Options::default()).unwrap();
    pipeline.set_routes(routes);
    let inbound = Inbound::new("a".parse().unwrap(), ContentType::TEXT, "x".into());
    let accepted = pipeline.intake().accept("web".parse().unwrap(), inbound, Vec::new()).await.unwrap();
    let mut replies = accepted.replies?;
    let mut answers = Vec::new();
    let all = async {
        while let Some(answer) = replies.next().await {
            answers.push(answer);
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all)
        .await
        .expect("the replies end when the routes are through");
    Some(answers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_route_that_ends_first_does_not_end_the_wait() {
    let routes = vec![
        route("a-counts", Does::Nothing, false),
        route("b-answers", Does::Reply("hello"), true),
        route("c-counts", Does::Reply("to nobody"), false),
    ];
    let answers = answers(routes).await.expect("a route may reply");
    let [Answer::Reply(message)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(&message.payload[..], b"hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_an_answer_and_silence_is_an_end() {
    let rejected = answers(vec![route("a", Does::Reject("no number"), true)]).await;
    assert_eq!(rejected, Some(vec![Answer::Rejected("rejected: no number".to_owned())]));
    assert_eq!(answers(vec![route("a", Does::Nothing, true)]).await, Some(Vec::new()));
    assert_eq!(answers(vec![route("a", Does::Reply("x"), false)]).await, None);
}
