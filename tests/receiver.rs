//! A far end for the `http` sink that can be told to fail or to be slow, and remembers what it took.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};

/// What was taken, in order; repeats included.
#[derive(Clone, Debug)]
pub struct Taken {
    pub idempotency_id: String,
    pub body: serde_json::Value,
}

#[derive(Default)]
struct Behaviour {
    failing: AtomicBool,
    /// Every so many offers one fails, though healthy (0: none).
    fail_every: AtomicU64,
    delay_ms: AtomicU64,
    offers: AtomicU64,
    taken: std::sync::Mutex<Vec<Taken>>,
}

#[derive(Clone)]
pub struct Receiver {
    pub address: SocketAddr,
    behaviour: Arc<Behaviour>,
}

impl Receiver {
    pub async fn start() -> Result<Self> {
        let behaviour = Arc::new(Behaviour::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let app = axum::Router::new().fallback(take).with_state(behaviour.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { address, behaviour })
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn set_failing(&self, failing: bool) {
        self.behaviour.failing.store(failing, Ordering::Relaxed);
    }

    pub fn fail_every(&self, offers: u64) {
        self.behaviour.fail_every.store(offers, Ordering::Relaxed);
    }

    pub fn set_delay(&self, delay: Duration) {
        self.behaviour.delay_ms.store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.behaviour.taken.lock().expect("no test panics while it holds this").clone()
    }
}

async fn take(State(behaviour): State<Arc<Behaviour>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let delay = behaviour.delay_ms.load(Ordering::Relaxed);
    if delay > 0 {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let offer = behaviour.offers.fetch_add(1, Ordering::Relaxed) + 1;
    let every = behaviour.fail_every.load(Ordering::Relaxed);
    if behaviour.failing.load(Ordering::Relaxed) || every > 0 && offer % every == 0 {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let idempotency_id =
        headers.get("idempotency-key").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let body = serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null);
    let taken = Taken { idempotency_id: idempotency_id.to_owned(), body };
    behaviour.taken.lock().expect("no test panics while it holds this").push(taken);
    // A failure after taking it: it will be offered again with the same id.
    if every > 0 && offer % (every * 3) == 1 { StatusCode::BAD_GATEWAY } else { StatusCode::NO_CONTENT }
}
