//! BlueZ, over the system's D-Bus (`DBUS_SYSTEM_BUS_ADDRESS`, if that is set).

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use btleplug::api::{Central, CentralEvent, CentralState, Manager as _, Peripheral as _, ScanFilter};
use btleplug::platform::{Adapter, Manager, PeripheralId};
use futures::StreamExt;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::decode::Advertisement;
use super::radio::{Ear, Radio};
use crate::LinkError;

/// How often the adapter is looked at: one that is pulled out says nothing.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// BlueZ answers within milliseconds, if it does.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How many devices are known by address and signal.
const DEVICES_MAX: usize = 4096;

pub(super) struct Bluez {
    adapter: Option<String>,
}

impl Bluez {
    /// The first adapter, if none is named.
    pub(super) fn new(adapter: Option<&str>) -> Self {
        Self { adapter: adapter.map(str::to_owned) }
    }
}

impl Radio for Bluez {
    /// In a runtime of its own: btleplug's connection to D-Bus is a task that only ends with its runtime, and opens
    /// by blocking; and what it spawns to say farewell to a bus that is gone would panic.
    async fn listen(&self, ear: Ear) -> LinkError {
        let (adapter, stop) = (self.adapter.clone(), CancellationToken::new());
        let _stop_when_dropped = stop.clone().drop_guard();
        let (end, ended) = oneshot::channel();
        let listening = move || {
            let lost = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(until(&stop, hear(adapter.as_deref(), &ear))),
                Err(error) => Some(LinkError::new("starting to listen", error)),
            };
            // Whoever is told to stop does not ask why.
            drop(lost.map(|lost| end.send(lost)));
        };
        let started = std::thread::Builder::new().name("sandbar-ble".to_owned()).spawn(listening);
        match started {
            Ok(_) => ended.await.unwrap_or_else(|_| LinkError::ended("listening to BlueZ panicked")),
            Err(error) => LinkError::new("starting to listen", error),
        }
    }
}

/// `None` if it was stopped first.
async fn until(
    stop: &CancellationToken,
    hearing: impl Future<Output = Result<Infallible, LinkError>>,
) -> Option<LinkError> {
    tokio::select! {
        () = stop.cancelled() => None,
        Err(lost) = hearing => Some(lost),
    }
}

async fn hear(wanted: Option<&str>, ear: &Ear) -> Result<Infallible, LinkError> {
    let manager = timely("connecting to the system's D-Bus", Manager::new()).await?;
    let (name, adapter) = adapter(&manager, wanted).await?;
    let mut events = timely(format!("asking BlueZ for what {name} hears"), adapter.events()).await?;
    scan(&name, &adapter).await?;
    ear.ready();
    let mut known = Known::default();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(CentralEvent::StateUpdate(CentralState::PoweredOff)) => return Err(off(&name)),
                Some(event) => if let Some(heard) = known.advertisement(event, &adapter).await {
                    ear.hear(heard);
                },
                None => return Err(LinkError::ended("the connection to BlueZ ended")),
            },
            _ = look.tick() => check(&name, &adapter).await?,
        }
    }
}

/// The adapter of that name, or the first one.
async fn adapter(manager: &Manager, wanted: Option<&str>) -> Result<(String, Adapter), LinkError> {
    let adapters = timely("asking BlueZ for its Bluetooth adapters", manager.adapters()).await?;
    let mut named = Vec::new();
    for adapter in adapters {
        let about = timely("asking BlueZ for a Bluetooth adapter", adapter.adapter_info()).await?;
        // `hci0 (usb:v1D6Bp0246d0540)`
        let name = about.split(' ').next().unwrap_or_default().to_owned();
        named.push((name, adapter));
    }
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    let names: Vec<String> = named.iter().map(|(name, _)| name.clone()).collect();
    let found = named.into_iter().find(|(name, _)| wanted.is_none_or(|wanted| wanted == name));
    found.ok_or_else(|| {
        LinkError::ended(match (wanted, names.is_empty()) {
            (None, _) => "there is no Bluetooth adapter".to_owned(),
            (Some(wanted), true) => format!("there is no Bluetooth adapter `{wanted}`, and no other"),
            (Some(wanted), false) => {
                format!("there is no Bluetooth adapter `{wanted}`; there are: {}", names.join(", "))
            }
        })
    })
}

/// Also switches the adapter on.
async fn scan(name: &str, adapter: &Adapter) -> Result<(), LinkError> {
    timely(format!("listening with the Bluetooth adapter {name}"), adapter.start_scan(ScanFilter::default()))
        .await
}

/// Whether the adapter is there, is on, and listens.
async fn check(name: &str, adapter: &Adapter) -> Result<(), LinkError> {
    timely(format!("the Bluetooth adapter {name} is gone"), adapter.adapter_info()).await?;
    if adapter.adapter_state().await.unwrap_or(CentralState::PoweredOff) != CentralState::PoweredOn {
        return Err(off(name));
    }
    // A bluetoothd that crashed and came back in the meantime does not know that anybody listens, and does not say
    // so. Asked by who listens already it answers that it does.
    match scan(name, adapter).await {
        Err(error) if listens_already(&error) => Ok(()),
        result => result,
    }
}

fn listens_already(error: &LinkError) -> bool {
    format!("{error:?}").contains("org.bluez.Error.InProgress")
}

fn off(name: &str) -> LinkError {
    LinkError::ended(format!("the Bluetooth adapter {name} is switched off, or BlueZ has ended"))
}

/// What was heard of each device so far.
#[derive(Default)]
struct Known(HashMap<PeripheralId, Device>);

struct Device {
    address: Box<str>,
    rssi: Option<i16>,
}

impl Known {
    /// What the event says was heard, if it says so.
    async fn advertisement(&mut self, event: CentralEvent, adapter: &Adapter) -> Option<Advertisement> {
        match event {
            // The first one of a device says only that it is there.
            CentralEvent::DeviceDiscovered(id) => {
                let peripheral = adapter.peripheral(&id).await.ok()?;
                let properties = peripheral.properties().await.ok()??;
                let device = Device { address: address(&properties.address), rssi: properties.rssi };
                let advertisement = device.says(
                    properties.manufacturer_data.into_iter().collect(),
                    properties.service_data.into_iter().collect(),
                );
                self.remember(id, device);
                // BlueZ lists devices, too, that it heard long ago: those have no signal.
                Some(advertisement).filter(|heard| heard.rssi.is_some())
            }
            CentralEvent::RssiUpdate { id, rssi } => {
                self.device(&id, adapter).await?.rssi = Some(rssi);
                None
            }
            CentralEvent::ManufacturerDataAdvertisement { id, manufacturer_data } => {
                let device = self.device(&id, adapter).await?;
                Some(device.says(manufacturer_data.into_iter().collect(), Vec::new()))
            }
            CentralEvent::ServiceDataAdvertisement { id, service_data } => {
                let device = self.device(&id, adapter).await?;
                Some(device.says(Vec::new(), service_data.into_iter().collect()))
            }
            _ => None,
        }
    }

    async fn device(&mut self, id: &PeripheralId, adapter: &Adapter) -> Option<&mut Device> {
        if !self.0.contains_key(id) {
            let properties = adapter.peripheral(id).await.ok()?.properties().await.ok()??;
            self.remember(
                id.clone(),
                Device { address: address(&properties.address), rssi: properties.rssi },
            );
        }
        self.0.get_mut(id)
    }

    /// Those that are forgotten are asked for again.
    fn remember(&mut self, id: PeripheralId, device: Device) {
        if self.0.len() >= DEVICES_MAX {
            self.0.clear();
        }
        self.0.insert(id, device);
    }
}

impl Device {
    fn says(&self, manufacturer: Vec<(u16, Vec<u8>)>, service: Vec<(uuid::Uuid, Vec<u8>)>) -> Advertisement {
        Advertisement { address: self.address.clone(), rssi: self.rssi, manufacturer, service }
    }
}

fn address(address: &impl Display) -> Box<str> {
    address.to_string().to_uppercase().into()
}

async fn timely<T>(
    doing: impl Into<String>,
    asking: impl Future<Output = btleplug::Result<T>>,
) -> Result<T, LinkError> {
    match tokio::time::timeout(ANSWER_WITHIN, asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(LinkError::new(doing, error)),
        Err(_) => Err(LinkError::new(doing, format!("no answer within {} s", ANSWER_WITHIN.as_secs()))),
    }
}
