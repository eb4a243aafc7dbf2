//! What every driver must come through on the real host: bad input, peers that are lost in the middle of a
//! message, and `kill -9`. A protocol is one [`protocol::Protocol`] and one line `scenarios!(It)`.

mod bravejig;
mod camera;
mod coap;
mod email;
mod files;
mod frames;
mod gps;
mod harness;
mod http2;
mod kraken;
mod line;
mod modbus;
mod modbus_rtu;
mod mqtt;
mod mqtt_client;
mod protocol;
mod pyaiot;
mod sandbar;
mod schedule;
mod serial;
mod tcp;
mod udp;
mod webhook;
mod websocket;

/// The scenarios, for a protocol.
macro_rules! scenarios {
    ($protocol:ty) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn bad_input_is_answered_and_changes_nothing() -> anyhow::Result<()> {
            crate::harness::bad_input::<$protocol>().await
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn peers_that_are_lost_within_a_message_leave_no_reading() -> anyhow::Result<()> {
            crate::harness::lost_peers::<$protocol>().await
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn what_was_acknowledged_before_a_kill_arrives() -> anyhow::Result<()> {
            crate::harness::kills::<$protocol>().await
        }
    };
}
pub(crate) use scenarios;
