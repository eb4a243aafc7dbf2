//! What a scenario needs to know of a protocol.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A driver, and how its peers speak to it.
pub(crate) trait Protocol: Sized + Send + Sync + 'static {
    const DRIVER: &'static str;
    /// How many connections there can be at once: a serial line has one.
    const CONNECTIONS: usize = usize::MAX;
    type Client: Client;

    /// Starts what the settings need: a far end that the driver connects to, a folder that it watches. Most need
    /// none. It outlives the hosts that a scenario kills.
    fn start() -> impl Future<Output = Result<Self>> + Send;

    /// Settings of the ingress in TOML, without `driver`. Frames or messages of 64 KiB or less are to be taken.
    fn settings(&self) -> String;

    /// `address` is the host's: `127.0.0.1:40123`; nothing if it does not listen.
    fn connect(&self, address: &str) -> impl Future<Output = Result<Self::Client>> + Send;

    /// What peers might send over one connection, byte for byte, each whole and right, and without an effect that
    /// is kept beyond its connection.
    fn conversations(&self) -> Vec<Vec<u8>>;

    /// Bytes that are wrong in ways of this protocol's own: truncated, oversized, of a wrong encoding.
    fn wrong(&self) -> Vec<Vec<u8>>;

    /// What parsers of this protocol trip over.
    fn pieces(&self) -> &'static [&'static [u8]];

    /// Sends bytes over a connection of their own, and returns all that was answered.
    fn throw(&self, address: &str, bytes: Vec<u8>) -> impl Future<Output = Result<Vec<u8>>> + Send {
        let address = address.to_owned();
        async move { throw_tcp(&address, &bytes).await }
    }

    /// Sends bytes over a connection of their own, which is then lost: a cable that is pulled, a peer that crashed.
    fn lose(&self, address: &str, bytes: Vec<u8>) -> impl Future<Output = Result<()>> + Send {
        let address = address.to_owned();
        async move {
            let mut stream = TcpStream::connect(&address).await?;
            stream.write_all(&bytes).await?;
            Ok(stream.set_zero_linger()?)
        }
    }

    /// Objects to an answer that is not of this protocol.
    fn check_answer(&self, answer: &[u8]) -> Result<()>;

    /// The markers that a reading holds, which is JSON here: most protocols carry a text as it is.
    fn markers(reading: &str) -> Vec<String> {
        let marker = |(at, _): (usize, &str)| reading.get(at..at + marker(0).len()).map(str::to_owned);
        reading.match_indices("marker-").filter_map(marker).collect()
    }

    /// The beginning of a message that holds `marker`, which is never sent to its end. `None` where a message comes
    /// whole or not at all.
    fn half(&self, marker: &str) -> Option<Vec<u8>>;
}

/// A text that no other reading holds.
pub(crate) fn marker(number: u64) -> String {
    format!("marker-{number:08}")
}

/// A peer with a connection.
pub(crate) trait Client: Send + 'static {
    /// Sends a reading whose payload is (or holds) this text, and waits for what the host says of it. An error says
    /// that the connection was lost first.
    fn send(&mut self, text: &str) -> impl Future<Output = Result<Told>> + Send;
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Acknowledged,
    /// In the protocol's terms.
    Refused(String),
    /// The protocol has no word for it: what is in the journal was taken.
    Nothing,
}

/// How long an answer to garbage may take.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Sends it all, whatever becomes of the connection; who is owed no answer gets none.
pub(crate) async fn throw_tcp(address: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await.context("the host does not listen any more")?;
    drop(stream.write_all(bytes).await);
    Ok(rest(stream).await)
}

/// What is answered, until nothing more comes.
pub(crate) async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    if tokio::time::timeout(Duration::from_millis(100), stream.read_to_end(&mut answer)).await.is_err() {
        drop(stream.shutdown().await);
        drop(tokio::time::timeout(ANSWER_WITHIN, stream.read_to_end(&mut answer)).await);
    }
    answer
}
