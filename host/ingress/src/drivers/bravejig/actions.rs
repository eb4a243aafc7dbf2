//! Carrying commands out, one after the other.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::command::{Action, Target, of_reply, parse, target_of};
use super::decode::notice;
use super::firmware;
use super::link::{Ended, Link};
use super::wire::{
    Frame, Id, ModuleRequest, RouterAnswer, firmware_request, is_busy, module, result_text, router,
    router_request,
};
use crate::CommandError;
use crate::devices::Order;

/// How often a part of firmware is sent again to who is busy, and after how long.
const BUSY_TRIES: usize = 10;
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// A progress reading is made for so many steps of an update.
const PROGRESS_STEPS: usize = 20;

/// How it went; outside, that the line is lost.
type Went<T> = Result<Result<T, CommandError>, Ended>;

/// Who is told how a command went.
enum Asker {
    Order(Order),
    /// A handler that replied: nobody.
    Reply,
}

impl Asker {
    fn sent(&self) {
        if let Self::Order(order) = self {
            order.sent();
        }
    }

    fn done(self, result: Result<(), CommandError>) {
        if let Self::Order(order) = self {
            order.done(result);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Link<S> {
    pub(super) async fn carry_out(&mut self, order: Order) -> Result<(), Ended> {
        let command = &order.command;
        let action = target_of(&command.device, &self.settings.router_device).and_then(|target| {
            parse(target, &command.name, &command.payload)
                .map(|action| (target, command.name.to_string(), action))
        });
        match action {
            Ok((target, name, action)) => self.perform(Asker::Order(order), target, &name, action).await,
            Err(problem) => {
                order.done(Err(CommandError::Reject(problem)));
                Ok(())
            }
        }
    }

    pub(super) async fn carry_out_reply(&mut self, sender: Option<Id>, payload: &[u8]) -> Result<(), Ended> {
        let action = of_reply(payload, sender, &self.settings.router_device)
            .and_then(|(name, target, payload)| Ok((parse(target, &name, &payload)?, target, name)));
        match action {
            Ok((action, target, name)) => self.perform(Asker::Reply, target, &name, action).await,
            Err(problem) => {
                self.complain("reply", &problem);
                Ok(())
            }
        }
    }

    async fn perform(
        &mut self,
        asker: Asker,
        target: Target,
        name: &str,
        action: Action,
    ) -> Result<(), Ended> {
        if let Some(rest) = self.cooling_down() {
            let seconds = rest.as_secs_f64();
            let about = format!("{name}: a command was carried out just now; in {seconds:.1} s again");
            if matches!(asker, Asker::Reply) {
                self.complain("cool-down", &about);
            }
            asker.done(Err(CommandError::Retry(about)));
            return Ok(());
        }
        asker.sent();
        let done = match action {
            Action::Module { device, sensor, command, data } => {
                self.ask_module(device, sensor, command, data).await?.map(|()| json!({}))
            }
            Action::Router { command } => {
                self.ask_router(command).await?.map(|answer| answer_json(command, &answer))
            }
            Action::RouterRestart => self.restart().await?.map(|()| json!({})),
            Action::ModuleFirmware { .. } | Action::RouterFirmware { .. } => {
                let updated = self.update(asker, target, action).await;
                self.end_action();
                return updated;
            }
        };
        self.end_action();
        match done {
            Ok(answer) => {
                self.tell(target, name, answer);
                asker.done(Ok(()));
            }
            Err(error) => {
                if matches!(asker, Asker::Reply) {
                    self.complain("reply", &format!("{name}: {error}"));
                }
                asker.done(Err(error));
            }
        }
        Ok(())
    }

    fn cooling_down(&self) -> Option<Duration> {
        let until = self.acted? + self.settings.cooldown;
        until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero())
    }

    /// The watch for silence goes on from now.
    fn end_action(&mut self) {
        (self.acted, self.heard) = (Some(Instant::now()), Instant::now());
    }

    fn device_of(&self, target: Target) -> String {
        match target {
            Target::Router => self.settings.router_device.to_string(),
            Target::Module(id) => id.to_string(),
        }
    }

    fn tell(&mut self, target: Target, name: &str, mut answer: Value) {
        let device = self.device_of(target);
        if let Value::Object(answer) = &mut answer {
            answer
                .extend([("device".to_owned(), device.as_str().into()), ("command".to_owned(), name.into())]);
        }
        let inbound = notice(&self.settings, &device, "answer", &answer);
        self.hand_over(inbound);
    }

    async fn ask_module(&mut self, device: Id, sensor: Option<u16>, command: u8, data: Vec<u8>) -> Went<()> {
        let Some(sensor) = sensor.or_else(|| self.sensor_of(device)) else {
            let problem = "sensor: the module was not heard yet: say which sensor it has";
            return Ok(Err(CommandError::Reject(problem.to_owned())));
        };
        match self.module_result(device, sensor, command, data).await? {
            Ok(0) => Ok(Ok(())),
            Ok(result) if is_busy(result) => Ok(Err(CommandError::Retry(result_text(result).to_owned()))),
            Ok(result) => Ok(Err(CommandError::Reject(format!("{} (result {result})", result_text(result))))),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn module_result(&mut self, device: Id, sensor: u16, command: u8, data: Vec<u8>) -> Went<u8> {
        self.order = self.order.wrapping_add(1);
        let order = self.order;
        let request = ModuleRequest { device, sensor, command, order, data }.encode(self.seconds());
        self.ask(&request, |frame| match frame {
            Frame::Module(answer)
                if (answer.device, answer.order, answer.command) == (device, order, command) =>
            {
                Some(answer.result)
            }
            _ => None,
        })
        .await
    }

    pub(super) async fn ask_router(&mut self, command: u8) -> Went<RouterAnswer> {
        let request = router_request(command, self.seconds());
        self.ask(&request, |frame| match frame {
            Frame::Router(answer) if answer.command == command => Some(answer),
            _ => None,
        })
        .await
    }

    /// Writes, and waits for the frame that `wanted` takes.
    async fn ask<T>(&mut self, request: &[u8], wanted: impl Fn(Frame) -> Option<T>) -> Went<T> {
        self.write(request).await?;
        let deadline = Instant::now() + self.settings.answer_timeout;
        while let Some(frame) = self.answer(deadline).await? {
            if let Frame::Error { reason } = frame {
                return Ok(Err(CommandError::Reject(format!("the router refuses it, reason {reason}"))));
            }
            if let Some(answer) = wanted(frame) {
                return Ok(Ok(answer));
            }
        }
        let millis = self.settings.answer_timeout.as_millis();
        Ok(Err(CommandError::Retry(format!("no answer within {millis} ms"))))
    }

    /// Stop, wait, start.
    pub(super) async fn restart(&mut self) -> Went<()> {
        if let Err(error) = self.ask_router(router::STOP).await? {
            return Ok(Err(error));
        }
        self.wait(self.settings.restart_wait).await?;
        Ok(self.ask_router(router::START).await?.map(drop))
    }

    /// Who asked is told once it has begun; the rest is told by readings.
    async fn update(&mut self, asker: Asker, target: Target, action: Action) -> Result<(), Ended> {
        let parts = match self.begin_update(&action).await? {
            Ok(parts) => parts,
            Err(error) => {
                if matches!(asker, Asker::Reply) {
                    self.complain("reply", &error);
                }
                asker.done(Err(error));
                return Ok(());
            }
        };
        asker.done(Ok(()));
        let total = parts.len();
        self.progress(target, "running", 0, total, None);
        for (index, part) in parts.into_iter().enumerate() {
            if let Err(error) = self.send_part(&action, part).await? {
                self.progress(target, "failed", index, total, Some(&error.to_string()));
                return Ok(());
            }
            let sent = index + 1;
            if sent < total && sent % total.div_ceil(PROGRESS_STEPS) == 0 {
                self.progress(target, "running", sent, total, None);
            }
        }
        self.progress(target, "done", total, total, None);
        match target {
            Target::Module(_) => Ok(()),
            // It begins anew with its new firmware.
            Target::Router => match self.restart().await? {
                Ok(()) => Ok(()),
                Err(_) => Err(self.lost("the router did not come back after its update")),
            },
        }
    }

    /// The parts that are to be sent.
    async fn begin_update(&mut self, action: &Action) -> Went<Vec<Vec<u8>>> {
        match action {
            Action::ModuleFirmware { device, sensor, parts } => {
                let (first, rest) = parts.split_first().expect("there is one of the hardware");
                let begun = self.ask_module(*device, *sensor, module::FIRMWARE, first.clone()).await?;
                Ok(begun.map(|()| rest.to_vec()))
            }
            Action::RouterFirmware { image } => {
                let size = u32::try_from(image.len()).unwrap_or(u32::MAX);
                let request = firmware_request(size, self.seconds());
                let begun = self.ask_firmware(&request).await?;
                Ok(begun.map(|()| firmware::router_parts(image)))
            }
            _ => Ok(Ok(Vec::new())),
        }
    }

    async fn send_part(&mut self, action: &Action, part: Vec<u8>) -> Went<()> {
        let Action::ModuleFirmware { device, sensor, .. } = action else {
            return self.ask_firmware(&part).await;
        };
        let mut went = self.ask_module(*device, *sensor, module::FIRMWARE, part.clone()).await?;
        for _ in 0..BUSY_TRIES {
            if !matches!(went, Err(CommandError::Retry(_))) {
                break;
            }
            self.wait(BUSY_WAIT).await?;
            went = self.ask_module(*device, *sensor, module::FIRMWARE, part.clone()).await?;
        }
        Ok(went)
    }

    async fn ask_firmware(&mut self, bytes: &[u8]) -> Went<()> {
        let answered = self.ask(bytes, |frame| match frame {
            Frame::Firmware { result } => Some(result),
            _ => None,
        });
        Ok(match answered.await? {
            Ok(0) => Ok(()),
            Ok(result) => {
                Err(CommandError::Reject(format!("the router refuses the firmware, result {result}")))
            }
            Err(error) => Err(error),
        })
    }

    fn progress(&mut self, target: Target, state: &str, sent: usize, total: usize, problem: Option<&str>) {
        let device = self.device_of(target);
        let progress = json!({
            "device": device, "command": "update_firmware", "state": state, "sent_parts": sent,
            "total_parts": total, "progress_percent": sent * 100 / total.max(1), "problem": problem,
        });
        let inbound = notice(&self.settings, &device, "progress", &progress);
        self.hand_over(inbound);
    }
}

/// What a router's answer says, beside that it was given.
fn answer_json(command: u8, answer: &RouterAnswer) -> Value {
    let data = &answer.data;
    let ids = |bytes: &[u8]| -> Vec<String> {
        let id = |bytes: &[u8]| bytes.try_into().ok().map(|bytes| Id(u64::from_le_bytes(bytes)).to_string());
        bytes.chunks_exact(8).filter_map(id).collect()
    };
    let mut said = json!({ "router": answer.router.to_string() });
    let (name, value) = match command {
        router::VERSION => {
            let parts: Vec<String> = data.iter().map(u8::to_string).collect();
            ("version", parts.join(".").into())
        }
        router::DEVICE_IDS => ("devices", ids(data.get(1..).unwrap_or_default()).into()),
        command if (router::DEVICE_ID..router::SCAN_MODE).contains(&command) => {
            ("module", ids(data).first().cloned().into())
        }
        _ => ("value", data.first().copied().into()),
    };
    said[name] = value;
    said
}
