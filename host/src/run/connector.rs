//! The face of IoT Cloud Connector, if the configuration has one.

use anyhow::Context;
use sandbar_control::tables::CloudConnectorTable;
use sandbar_control::{Control, Declared};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

pub(super) struct CloudConnector {
    listener: TcpListener,
    table: CloudConnectorTable,
}

impl CloudConnector {
    pub(super) async fn listen(declared: &Declared) -> anyhow::Result<Option<Self>> {
        let Some(table) = declared.compat().cloud_connector.clone() else { return Ok(None) };
        let listener = TcpListener::bind(table.listen).await.with_context(|| {
            format!("compat.cloud_connector cannot listen on {}: choose another address", table.listen)
        })?;
        Ok(Some(Self { listener, table }))
    }

    /// Until `stop`.
    pub(super) fn start(self, control: Control, stop: CancellationToken) -> JoinHandle<()> {
        if let Ok(address) = self.listener.local_addr() {
            info!(%address, "listening as IoT Cloud Connector");
        }
        tokio::spawn(async move {
            let served =
                sandbar_compat::serve_cloud_connector(self.listener, control, &self.table, stop).await;
            if let Err(problem) = served {
                error!(%problem, "compat.cloud_connector");
            }
        })
    }
}
