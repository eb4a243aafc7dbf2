//! Bluetooth Low Energy beacons, heard through BlueZ.

mod bluez;
mod config;
pub(crate) mod decode;
mod radio;
#[cfg(test)]
mod tests;
mod window;

use std::pin::pin;
use std::time::Duration;

use sandbar_reading::{Attributes, ConfigError, ContentType, Inbound};

use self::bluez::Bluez;
pub(crate) use self::config::Config;
use self::config::Plan;
use self::decode::{Advertisement, Sighting};
use self::radio::{Radio, ear};
use self::window::Window;
use crate::complaints::Complaints;
use crate::exchange::{Exchange, Manner, Say};
use crate::{Driver, LinkError, Session};

pub(crate) struct Ble {
    plan: Plan,
}

/// What is on its way to the disk when the session ends is waited for so long.
const FINISH: Duration = Duration::from_millis(300);

impl Driver for Ble {
    const NAME: &'static str = "ble";
    const EXAMPLE: &'static str = r#"
adapter = "hci0"
formats = ["ibeacon", "eddystone"]
duplicate_window_ms = 5000
allowed_uuids = ["f7826da6-4fa2-4e98-8024-bc5b71e0893e"]
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { plan: Plan::new(&config)? })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        watch(&Bluez::new(self.plan.adapter.as_deref()), &self.plan, &session).await
    }
}

/// Until the radio fails, or the session stops.
async fn watch(radio: &impl Radio, plan: &Plan, session: &Session) -> Result<(), LinkError> {
    let (ear, mut heard) = ear(session.clone());
    let mut listening = pin!(radio.listen(ear));
    // Nobody can be replied to.
    let mut exchange = Exchange::new(session.clone(), Manner::Hold, Duration::ZERO);
    let mut window = Window::new(plan.window);
    let complaints = Complaints::new(session.ingress().clone());
    loop {
        tokio::select! {
            () = session.stopped() => break,
            lost = &mut listening => return Err(lost),
            Some(advertisement) = heard.recv(), if exchange.has_room() => {
                for sighting in plan.reader.decode(&advertisement) {
                    if window.is_new(&sighting.key, session.now()) {
                        exchange.add((), inbound(plan, sighting, &advertisement));
                    }
                }
            }
            ((), said) = exchange.next() => if let Say::Refuse(refused) = said {
                complaints.note("refused", "the air", refused, session.now());
            }
        }
    }
    let settled = async {
        while !exchange.is_settled() {
            exchange.next().await;
        }
    };
    drop(tokio::time::timeout(FINISH, settled).await);
    Ok(())
}

fn inbound(plan: &Plan, sighting: Sighting, heard: &Advertisement) -> Inbound {
    let (topic, device) = plan.name(&sighting, &heard.address);
    let attributes =
        Attributes::new().with("ble.format", sighting.format).with("ble.address", heard.address.clone());
    Inbound { device: Some(device), attributes, ..Inbound::new(topic, ContentType::JSON, sighting.payload) }
}
