//! BlueZ's place on a bus: a beacon that is heard as fast as whoever listens asks about it.

use std::any::Any;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use dbus::Message;
use dbus::arg::{PropMap, RefArg, Variant};
use dbus::blocking::Connection;
use dbus::blocking::stdintf::org_freedesktop_dbus::PropertiesPropertiesChanged;
use dbus::channel::{MatchingReceiver, Sender};
use dbus::message::{MatchRule, SignalArgs};
use sandbar_tests::bus::{self, Bus};

const ADAPTER: &str = "/org/bluez/hci0";
const BEACON: &str = "/org/bluez/hci0/dev_11_22_33_44_55_66";

/// Where this process looks for the system's bus, if it was started with its [`address`]: libdbus asks the environment,
/// and asks it once.
fn socket() -> PathBuf {
    std::env::temp_dir().join(format!("sandbar-bench-{}.bus", std::process::id()))
}

/// What `DBUS_SYSTEM_BUS_ADDRESS` is to be for this process.
pub(crate) fn address() -> String {
    bus::address(&socket())
}

struct Bluez {
    is_over: Arc<AtomicBool>,
    speaking: Option<JoinHandle<Result<(), dbus::Error>>>,
    _bus: Bus,
}

pub(super) fn bluez(_: &Path) -> Result<Box<dyn Any + Send>> {
    let bus = Bus::start(&socket())?;
    let connection = Connection::new_system()?;
    connection.request_name("org.bluez", false, false, true)?;
    let mut is_scanning = false;
    let answer = move |call: Message, connection: &Connection| {
        // As long as the bus takes them.
        answers(&call, &mut is_scanning).into_iter().all(|message| connection.send(message).is_ok())
    };
    connection.start_receive(MatchRule::new_method_call(), Box::new(answer));
    let is_over = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&is_over);
    let speaking = std::thread::spawn(move || {
        while !ends.load(Ordering::Relaxed) {
            connection.process(Duration::from_millis(50))?;
        }
        Ok(())
    });
    Ok(Box::new(Bluez { is_over, speaking: Some(speaking), _bus: bus }))
}

impl Drop for Bluez {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        drop(self.speaking.take().map(JoinHandle::join));
        let socket = socket();
        drop(std::fs::remove_file(socket.with_extension("conf")));
        drop(std::fs::remove_file(socket));
    }
}

/// The answer to a call, and what is heard after it: something as soon as somebody scans, then the next once the device
/// of the one before was asked for, which `btleplug` does for each.
fn answers(call: &Message, is_scanning: &mut bool) -> Vec<Message> {
    let (path, member) = (call.path(), call.member());
    match (path.as_deref().unwrap_or_default(), member.as_deref().unwrap_or_default()) {
        ("/", "GetManagedObjects") => {
            let interfaces = HashMap::from([("org.bluez.Adapter1", adapter())]);
            vec![call.method_return().append1(HashMap::from([(dbus::Path::from(ADAPTER), interfaces)]))]
        }
        (ADAPTER, "GetAll") => vec![call.method_return().append1(adapter())],
        (BEACON, "GetAll") => vec![call.method_return().append1(beacon()), heard()],
        (ADAPTER, "StartDiscovery") if !std::mem::replace(is_scanning, true) => {
            vec![call.method_return(), heard()]
        }
        _ => vec![call.method_return()],
    }
}

/// An advertisement: an iBeacon's.
fn heard() -> Message {
    let data = [&[0x02_u8, 0x15][..], &[7; 16], &[0, 1, 0, 1, 0xc5]].concat();
    let data: HashMap<u16, Variant<Box<dyn RefArg>>> = HashMap::from([(0x4c, Variant(Box::new(data) as _))]);
    let changed = PropertiesPropertiesChanged {
        interface_name: "org.bluez.Device1".to_owned(),
        changed_properties: PropMap::from([property("ManufacturerData", data)]),
        invalidated_properties: Vec::new(),
    };
    changed.to_emit_message(&BEACON.into())
}

fn adapter() -> PropMap {
    PropMap::from([
        property("Address", "00:01:02:03:04:05".to_owned()),
        property("AddressType", "public".to_owned()),
        property("Name", "bench".to_owned()),
        property("Alias", "bench".to_owned()),
        property("Modalias", "usb:v1D6Bp0246d0540".to_owned()),
        property("Powered", true),
        property("Discovering", true),
    ])
}

fn beacon() -> PropMap {
    let not = ["Paired", "Connected", "ServicesResolved", "Trusted", "Blocked", "LegacyPairing"];
    let mut properties = PropMap::from([
        property("Address", "11:22:33:44:55:66".to_owned()),
        property("AddressType", "public".to_owned()),
        property("RSSI", -60_i16),
    ]);
    properties.extend(not.map(|name| property(name, false)));
    properties
}

fn property(name: &str, value: impl RefArg + 'static) -> (String, Variant<Box<dyn RefArg>>) {
    (name.to_owned(), Variant(Box::new(value)))
}
