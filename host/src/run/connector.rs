//! The face of IoT Cloud Connector, if the configuration has one, and as it has it.

use std::time::Duration;

use anyhow::Context;
use sandbar_control::Control;
use sandbar_control::tables::CloudConnectorTable;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Between attempts to listen where the one before it did a moment ago, and how many there are at once.
const AGAIN: (Duration, usize) = (Duration::from_millis(10), 20);

pub(super) struct CloudConnector {
    control: Control,
    stop: CancellationToken,
    running: Option<Running>,
    /// Those that run, and those that come to their end.
    tasks: JoinSet<()>,
    /// Where it could not listen is told once.
    refused: Option<CloudConnectorTable>,
}

struct Running {
    table: CloudConnectorTable,
    stop: CancellationToken,
}

impl CloudConnector {
    /// Until `stop`.
    pub(super) async fn start(control: Control, stop: CancellationToken) -> anyhow::Result<Self> {
        let mut connector = Self { control, stop, running: None, tasks: JoinSet::new(), refused: None };
        if let Some(table) = connector.control.compat().cloud_connector {
            let listener = listen(&table).await?;
            connector.run(listener, table);
        }
        Ok(connector)
    }

    /// Makes it what the configuration says by now. Where it cannot listen, the one before it stays, and this is to be
    /// called again.
    pub(super) async fn follow(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        let wanted = self.control.compat().cloud_connector;
        if self.running.as_ref().map(|running| &running.table) == wanted.as_ref() {
            return;
        }
        let Some(table) = wanted else { return self.end() };
        let is_there = self.running.as_ref().is_some_and(|running| running.table.listen == table.listen);
        if is_there {
            self.end();
        }
        let mut listener = listen(&table).await;
        for _ in 0..AGAIN.1 {
            if listener.is_ok() || !is_there {
                break;
            }
            tokio::time::sleep(AGAIN.0).await;
            listener = listen(&table).await;
        }
        match listener {
            Ok(listener) => {
                self.end();
                self.run(listener, table);
            }
            Err(problem) => {
                if self.refused.as_ref() != Some(&table) {
                    error!("{problem:#}");
                    self.refused = Some(table);
                }
            }
        }
    }

    fn run(&mut self, listener: TcpListener, table: CloudConnectorTable) {
        if let Ok(address) = listener.local_addr() {
            info!(%address, "listening as IoT Cloud Connector");
        }
        let stop = self.stop.child_token();
        let (control, settings, until) = (self.control.clone(), table.clone(), stop.clone());
        self.tasks.spawn(async move {
            let served = sandbar_compat::serve_cloud_connector(listener, control, &settings, until).await;
            if let Err(problem) = served {
                error!(%problem, "compat.cloud_connector");
            }
        });
        self.refused = None;
        self.running = Some(Running { table, stop });
    }

    /// It takes nobody any more; who is there is told to go.
    fn end(&mut self) {
        if let Some(running) = self.running.take() {
            info!(address = %running.table.listen, "no longer listening as IoT Cloud Connector");
            running.stop.cancel();
        }
    }

    /// Returns once all that it does has ended.
    pub(super) async fn ended(mut self) {
        // How it ended was told.
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn listen(table: &CloudConnectorTable) -> anyhow::Result<TcpListener> {
    TcpListener::bind(table.listen).await.with_context(|| {
        format!("compat.cloud_connector cannot listen on {}: choose another address", table.listen)
    })
}
