use std::sync::atomic::{AtomicBool, AtomicUsize};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use bytes::Bytes;
use prost::Message;
use sandbar_reading::TraceContext;
use serde_json::json;

use super::*;
use crate::figures::Kind;
use crate::proto;
use crate::span::SpanKind;

/// A collector that is away while it is told to be.
#[derive(Default)]
struct FarEnd {
    away: AtomicBool,
    spans: AtomicUsize,
    reports: AtomicUsize,
}

async fn collector() -> (Arc<FarEnd>, String) {
    let far_end = Arc::new(FarEnd::default());
    let app = Router::new()
        .route("/v1/traces", post(take_spans))
        .route("/v1/metrics", post(take_metrics))
        .with_state(far_end.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (far_end, url)
}

async fn take_spans(State(far_end): State<Arc<FarEnd>>, body: Bytes) -> StatusCode {
    if far_end.away.load(Ordering::Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let request = proto::TracesRequest::decode(body).unwrap();
    far_end.spans.fetch_add(request.resource_spans[0].scope_spans[0].spans.len(), Ordering::Relaxed);
    StatusCode::OK
}

async fn take_metrics(State(far_end): State<Arc<FarEnd>>, body: Bytes) -> StatusCode {
    proto::MetricsRequest::decode(body).unwrap();
    far_end.reports.fetch_add(1, Ordering::Relaxed);
    StatusCode::OK
}

fn start(settings: serde_json::Value) -> Telemetry {
    Telemetry::start(&sandbar_reading::settings(settings).unwrap()).unwrap()
}

fn span(number: u64) -> Span {
    Span {
        context: TraceContext { trace: 1, span: number + 1, sampled: true },
        parent: None,
        state: None,
        name: "accept web".to_owned(),
        kind: SpanKind::Consumer,
        began: Timestamp::from_millis(1),
        ended: Timestamp::from_millis(2),
        attributes: Vec::new(),
        error: None,
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn nothing_is_kept_without_a_collector() {
    let off = Telemetry::default();
    off.record(span(1));
    assert_eq!((off.sent(), off.sampling()), (None, Sampling::NOTHING));
    off.stop().await;
}

#[tokio::test]
async fn spans_arrive_and_what_is_left_goes_at_the_end() {
    let (far_end, url) = collector().await;
    let telemetry = start(json!({ "otlp": url }));
    (0..1000).for_each(|number| telemetry.record(span(number)));
    until("most spans arrive", || far_end.spans.load(Ordering::Relaxed) >= 512).await;
    telemetry.record(span(1000));
    telemetry.stop().await;
    assert_eq!(far_end.spans.load(Ordering::Relaxed), 1001);
    assert_eq!(telemetry.sent(), Some(Sent { spans: 1001, dropped: 0 }));
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_no_time() {
    let (far_end, url) = collector().await;
    far_end.away.store(true, Ordering::Relaxed);
    let telemetry = start(json!({ "otlp": url, "spans_max": 10 }));
    // One batch is on its way, and waits with its courier; ten more fit into the queue.
    telemetry.record(span(0));
    until("the courier has it", || telemetry.0.as_ref().unwrap().queue.capacity() == 10).await;
    sleep(LINGER + Duration::from_millis(300)).await;
    let began = Instant::now();
    (1..=1000).for_each(|number| telemetry.record(span(number)));
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    assert_eq!(telemetry.sent(), Some(Sent { spans: 0, dropped: 990 }));
    far_end.away.store(false, Ordering::Relaxed);
    until("the others arrive", || far_end.spans.load(Ordering::Relaxed) == 11).await;
    telemetry.stop().await;
    assert_eq!(telemetry.sent(), Some(Sent { spans: 11, dropped: 990 }));
}

#[tokio::test]
async fn a_host_that_stops_does_not_wait_for_a_collector_that_is_away() {
    let telemetry = start(json!({ "otlp": "http://127.0.0.1:1" }));
    telemetry.record(span(0));
    sleep(Duration::from_millis(50)).await;
    let began = Instant::now();
    telemetry.stop().await;
    assert!(began.elapsed() < LAST * 2, "{:?}", began.elapsed());
    assert_eq!(telemetry.sent().unwrap().spans, 0);
}

#[tokio::test]
async fn figures_are_reported_at_the_end_too() {
    let (far_end, url) = collector().await;
    let telemetry = start(json!({ "otlp": url, "metrics_every_s": 3600 }));
    let figures = || Some((Timestamp::from_millis(9), vec![Family::one(Kind::Gauge, "a", "A.", 1.0)]));
    telemetry.report(Timestamp::from_millis(1), figures);
    telemetry.stop().await;
    assert_eq!(far_end.reports.load(Ordering::Relaxed), 1);
}
