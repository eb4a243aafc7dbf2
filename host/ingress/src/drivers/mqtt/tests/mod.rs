//! The broker against clients of bytes, and a stand-in for the host.

mod client;
mod contract;
mod durable;
mod garbage;
mod large;
mod limits;
mod retained;
mod routing;
mod security;
mod sn;
mod web_socket;

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Mqtt;
use crate::Supervised;
use crate::contract::{StandIn, in_time, running, supervise};

struct Bench {
    host: Arc<StandIn>,
    ingress: Supervised,
    address: SocketAddr,
}

async fn bench(mut settings: Value) -> Bench {
    settings["listen"] = json!("127.0.0.1:0");
    start(settings, StandIn::new()).await
}

async fn start(settings: Value, host: Arc<StandIn>) -> Bench {
    let ingress = supervise::<Mqtt>(settings, &host);
    let address = running(&ingress).await.address.expect("it listens");
    Bench { host, ingress, address }
}

impl Bench {
    /// What the broker counts.
    fn figure(&self, name: &str) -> u64 {
        let figures = self.ingress.status().figures;
        figures.iter().find(|(own, _)| *own == name).expect("it counts that").1
    }

    /// Resolves once the broker has counted so many.
    async fn wait_figure(&self, name: &str, count: u64) {
        let counted = async {
            while self.figure(name) != count {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        in_time(counted).await;
    }

    /// A new broker over what the old one kept.
    async fn restart(self, mut settings: Value) -> Self {
        self.ingress.stop(std::time::Duration::from_secs(5)).await;
        settings["listen"] = json!("127.0.0.1:0");
        start(settings, self.host).await
    }
}
