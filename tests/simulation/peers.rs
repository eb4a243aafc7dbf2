//! Peers: each connection sends one reading at a time, again until it is acknowledged, as a driver would.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::poll;
use sandbar_ingress::{Accepted, Answer, Replies};
use sandbar_pipeline::Pipeline;
use sandbar_reading::{ContentType, Inbound, Refused, StateWrite};

use crate::script::text;
use crate::world::{Sent, World, name};

/// Sends what the connection has not had acknowledged yet. `unanswered` counts those who wait for replies.
pub(crate) async fn connection(
    world: World,
    pipeline: Arc<Pipeline>,
    (device, connection): (u64, u64),
    unanswered: Arc<AtomicUsize>,
) {
    loop {
        tokio::time::sleep(world.millis_below(200)).await;
        let (reading, attempt) = next(&world, (device, connection));
        if reading == world.plan.readings {
            return;
        }
        let label = format!("d{device}.{connection}/{reading}/{attempt}");
        let index = {
            let passing = pipeline.router().route("passing").is_some();
            let mut memory = world.memory.lock();
            memory.sent.push(Sent { label: label.clone(), passing, receipt: None });
            memory.sent.len() - 1
        };
        let result = send(&world, &pipeline, device, &label).await;
        world.trace(|| {
            format!("peer: {label} {:?}", result.as_ref().map(|result| result.as_ref().map(|a| a.receipt)))
        });
        match result {
            // The peer never heard of it, and sends it again.
            None => {}
            Some(Ok(Accepted { receipt, replies })) => {
                let mut memory = world.memory.lock();
                memory.sent[index].receipt = Some(receipt.id());
                memory.next.insert((device, connection), (reading + 1, 0));
                drop(memory);
                if let Some(replies) = replies {
                    unanswered.fetch_add(1, Relaxed);
                    tokio::spawn(answers(world.clone(), label, replies, unanswered.clone()));
                }
            }
            Some(Err(Refused::Busy { .. })) => tokio::time::sleep(Duration::from_millis(50)).await,
            Some(Err(_)) => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    }
}

/// What to send, and for which time.
fn next(world: &World, connection: (u64, u64)) -> (u64, u64) {
    let mut memory = world.memory.lock();
    let next = memory.next.entry(connection).or_default();
    let now = *next;
    next.1 += 1;
    now
}

/// `None` if the peer is lost before it is acknowledged.
async fn send(
    world: &World,
    pipeline: &Pipeline,
    device: u64,
    label: &str,
) -> Option<Result<Accepted, Refused>> {
    let device = format!("d{device}");
    let topic = format!("sensors/{device}").parse().expect("it is a topic");
    let inbound = Inbound {
        device: Some(device.as_str().into()),
        ..Inbound::new(topic, ContentType::TEXT, label.to_owned().into())
    };
    let keep = StateWrite { name: device.into(), value: Some(label.to_owned().into()), expires: None };
    let intake = pipeline.intake();
    let mut accepting = intake.accept(name("peers"), inbound, vec![keep]);
    if world.chance(90) {
        return Some(accepting.await);
    }
    for _ in 0..world.below(3) {
        if poll!(&mut accepting).is_ready() {
            return None;
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Nothing is answered twice, and there is an end.
async fn answers(world: World, label: String, mut replies: Replies, unanswered: Arc<AtomicUsize>) {
    let mut replied = 0;
    while let Some(answer) = replies.next().await {
        if let Answer::Reply(message) = answer {
            replied += 1;
            if replied > 1 || text(&message.payload) != label {
                world.wrong(format!("{label}: answer {replied} is of {}", text(&message.payload)));
            }
        }
    }
    unanswered.fetch_sub(1, Relaxed);
}
