//! One session: the router is started, what it says is taken, and silence is met with a restart and an alert.

use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::decode::notice;
use super::link::{Ended, Link};
use super::wire::{Frame, router};
use crate::devices::Order;

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Link<S> {
    /// Until it is stopped or the line is lost.
    pub(super) async fn run(&mut self, mut arriving: mpsc::Receiver<Order>) -> Ended {
        let ended = match self.start().await {
            Ok(()) => self.serve(&mut arriving).await,
            Err(ended) => ended,
        };
        self.settle().await;
        ended
    }

    async fn start(&mut self) -> Result<(), Ended> {
        match self.ask_router(router::START).await? {
            Ok(_) => {
                self.heard = Instant::now();
                self.session.ready();
                Ok(())
            }
            Err(error) => Err(self.lost(&format!("the router is not started: {error}"))),
        }
    }

    async fn serve(&mut self, arriving: &mut mpsc::Receiver<Order>) -> Ended {
        loop {
            if let Err(ended) = self.turn(arriving).await {
                return ended;
            }
        }
    }

    async fn turn(&mut self, arriving: &mut mpsc::Receiver<Order>) -> Result<(), Ended> {
        if let Some((sender, message)) = self.replies.pop_front() {
            return self.carry_out_reply(sender, &message.payload).await;
        }
        let silent = self.heard + self.settings.data_timeout;
        // A reply that comes meanwhile is not to wait for long.
        let until = silent.min(Instant::now() + std::time::Duration::from_millis(100));
        tokio::select! {
            Some(order) = arriving.recv() => self.carry_out(order).await,
            answer = self.answer(until) => match answer? {
                Some(Frame::Error { reason }) => {
                    self.complain("error", &format!("the router tells of an error, reason {reason}"));
                    Ok(())
                }
                // An answer that came too late.
                Some(_) => Ok(()),
                None if self.heard + self.settings.data_timeout <= Instant::now() => self.restart_and_tell().await,
                None => Ok(()),
            },
        }
    }

    async fn restart_and_tell(&mut self) -> Result<(), Ended> {
        let seconds = self.settings.data_timeout.as_secs_f64();
        let connected = self.ask_router(router::STOP).await?.is_ok();
        self.wait(self.settings.restart_wait).await?;
        let started = self.ask_router(router::START).await?.is_ok();
        let word = |went: bool| if went { "success" } else { "failed" };
        let outcome = if started { "the router was restarted" } else { "the router does not answer" };
        let alert = json!({
            "status": word(started),
            "timestamp": self.session.now().to_string(),
            "steps": { "connect": word(connected), "stabilize": word(started) },
            "message": format!("no module was heard for {seconds} s: {outcome}"),
        });
        let router = self.settings.router_device.to_string();
        let inbound = notice(&self.settings, &router, "alert", &alert);
        self.hand_over(inbound);
        self.heard = Instant::now();
        if started { Ok(()) } else { Err(self.lost("the router does not answer")) }
    }
}
