//! Commands by name, with JSON payloads, as what is asked of a module or the router. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::firmware;
use super::parameters::Parameters;
use super::uplink::{MAIN_UNIT, sensor_of};
use super::wire::{Id, module, router};

/// Who a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Router,
    Module(Id),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// `sensor`: which of the module's; without it, the one that it was heard with.
    Module {
        device: Id,
        sensor: Option<u16>,
        command: u8,
        data: Vec<u8>,
    },
    ModuleFirmware {
        device: Id,
        sensor: Option<u16>,
        parts: Vec<Vec<u8>>,
    },
    Router {
        command: u8,
    },
    /// Stop, wait, start.
    RouterRestart,
    RouterFirmware {
        image: Vec<u8>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sensor {
    sensor: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clear {
    sensor: Option<String>,
    /// 1 or 2; both without it.
    contact: Option<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    sensor: Option<String>,
    output_1: Option<OneOutput>,
    output_2: Option<OneOutput>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneOutput {
    mode: u8,
    #[serde(default)]
    ms: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModuleFirmware {
    sensor: Option<String>,
    hardware_id: u16,
    firmware_base64: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouterFirmware {
    firmware_base64: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScanMode {
    /// Asked for, without it.
    set: Option<Scan>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Scan {
    LongRange,
    Legacy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    index: u8,
}

/// What a router tells a module to leave as it is.
const IGNORE: u8 = 0xff;

/// The error says what is wrong with it.
pub(crate) fn parse(target: Target, name: &str, payload: &[u8]) -> Result<Action, String> {
    match target {
        Target::Module(device) => of_module(device, name, payload),
        Target::Router => of_router(name, payload),
    }
}

fn of_module(device: Id, name: &str, payload: &[u8]) -> Result<Action, String> {
    let (command, sensor, data) = match name {
        "instant_uplink" => (module::INSTANT_UPLINK, read::<Sensor>(payload)?.sensor, Vec::new()),
        "get_parameters" => (module::GET_PARAMETERS, read::<Sensor>(payload)?.sensor, vec![0]),
        "restart" => (module::RESTART, read::<Sensor>(payload)?.sensor, Vec::new()),
        "set_parameters" => {
            let data = read::<Parameters>(payload)?.write()?;
            let (command, sensor) = (module::SET_PARAMETERS, Some(MAIN_UNIT));
            return Ok(Action::Module { device, sensor, command, data });
        }
        "clear_counters" => {
            let clear: Clear = read(payload)?;
            let contact = clear.contact.unwrap_or_default();
            if contact > 2 {
                return Err("contact: must be 1 or 2".to_owned());
            }
            (module::CLEAR_COUNTERS, clear.sensor, vec![contact])
        }
        "output" => {
            let output: Output = read(payload)?;
            (module::OUTPUT, output.sensor.clone(), output.write()?)
        }
        "update_firmware" => {
            let update: ModuleFirmware = read(payload)?;
            let parts = firmware::module_parts(update.hardware_id, &decoded(&update.firmware_base64)?)?;
            return Ok(Action::ModuleFirmware { device, sensor: known(update.sensor.as_deref())?, parts });
        }
        _ => {
            return Err(format!(
                "a module knows instant_uplink, get_parameters, set_parameters, clear_counters, output, restart \
                 and update_firmware, not `{name}`"
            ));
        }
    };
    Ok(Action::Module { device, sensor: known(sensor.as_deref())?, command, data })
}

fn of_router(name: &str, payload: &[u8]) -> Result<Action, String> {
    let command = match name {
        "router_version" => alone(payload, router::VERSION)?,
        "device_list" => alone(payload, router::DEVICE_IDS)?,
        "keepalive" => alone(payload, router::KEEPALIVE)?,
        "remove_all_devices" => alone(payload, router::REMOVE_ALL)?,
        "device" => place(payload, router::DEVICE_ID)?,
        "remove_device" => place(payload, router::REMOVE)?,
        "scan_mode" => match read::<ScanMode>(payload)?.set {
            None => router::SCAN_MODE,
            Some(Scan::LongRange) => router::LONG_RANGE,
            Some(Scan::Legacy) => router::LEGACY,
        },
        "restart" => {
            read::<Empty>(payload)?;
            return Ok(Action::RouterRestart);
        }
        "update_firmware" => {
            let image = decoded(&read::<RouterFirmware>(payload)?.firmware_base64)?;
            return match image.is_empty() {
                true => Err("firmware_base64: is empty".to_owned()),
                false => Ok(Action::RouterFirmware { image }),
            };
        }
        _ => {
            return Err(format!(
                "the router knows router_version, device_list, device, remove_device, remove_all_devices, scan_mode, \
                 keepalive, restart and update_firmware, not `{name}`"
            ));
        }
    };
    Ok(Action::Router { command })
}

/// A command whose payload says nothing.
fn alone(payload: &[u8], command: u8) -> Result<u8, String> {
    read::<Empty>(payload).map(|_| command)
}

fn place(payload: &[u8], first: u8) -> Result<u8, String> {
    let Place { index } = read(payload)?;
    // The places for removing are one fewer: 6C to CE.
    let most =
        if first == router::REMOVE { router::DEVICE_IDS - router::REMOVE } else { router::DEVICES_MAX };
    if index >= most {
        return Err(format!("index: must be 0 to {}", most - 1));
    }
    Ok(first + index)
}

/// Of nothing as of an empty object.
fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
    let payload = if payload.trim_ascii().is_empty() { b"{}" } else { payload };
    serde_json::from_slice(payload).map_err(|error| error.to_string())
}

fn known(text: Option<&str>) -> Result<Option<u16>, String> {
    let sensor = |text: &str| sensor_of(text).ok_or_else(|| format!("sensor: there is no sensor `{text}`"));
    text.map(sensor).transpose()
}

fn decoded(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| format!("firmware_base64: {error}"))
}

impl Output {
    fn write(&self) -> Result<Vec<u8>, String> {
        if self.output_1.is_none() && self.output_2.is_none() {
            return Err("output_1: set this, or output_2, or both".to_owned());
        }
        let one = |output: &Option<OneOutput>| match output {
            Some(output) => (output.mode, output.ms),
            None => (IGNORE, 0),
        };
        let mut data = Vec::with_capacity(6);
        for (mode, ms) in [one(&self.output_1), one(&self.output_2)] {
            data.push(mode);
            data.extend(ms.to_le_bytes());
        }
        Ok(data)
    }
}

/// A handler's or a broker's reply that is a command: `{"command":"output","device":"2468…","output_1":{"mode":1}}`.
/// Without a device it is for the router, or for `sender`.
pub(crate) fn of_reply(
    payload: &[u8],
    sender: Option<Id>,
    router: &str,
) -> Result<(String, Target, Vec<u8>), String> {
    let Value::Object(mut object) = read::<Value>(payload)? else {
        return Err("a reply that is a command is an object".to_owned());
    };
    let Some(Value::String(name)) = object.remove("command") else {
        return Err("command: is missing".to_owned());
    };
    let target = match object.remove("device") {
        Some(Value::String(device)) => target_of(&device, router)?,
        Some(_) => return Err("device: must be a text".to_owned()),
        None => match sender {
            Some(sender) if of_module(sender, &name, b"{}").is_ok() || is_of_modules(&name) => {
                Target::Module(sender)
            }
            _ => Target::Router,
        },
    };
    Ok((name, target, Value::Object(object).to_string().into_bytes()))
}

fn is_of_modules(name: &str) -> bool {
    matches!(name, "set_parameters" | "output" | "clear_counters")
}

/// `router`: what the router is called.
pub(crate) fn target_of(device: &str, router: &str) -> Result<Target, String> {
    match device.parse() {
        Ok(id) => Ok(Target::Module(id)),
        Err(()) if device == router => Ok(Target::Router),
        Err(()) => Err(format!("device: `{device}` is neither a module's 16 digits nor `{router}`")),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(device: &str, name: &str, payload: &str, expected: &Expect) {
        let target = target_of(device, "router").unwrap();
        expected.assert_eq(&match parse(target, name, payload.as_bytes()) {
            Ok(Action::Module { sensor, command, data, .. }) => {
                format!("{sensor:x?} {command:02x} {data:02x?}")
            }
            Ok(Action::Router { command }) => format!("{command:02x}"),
            Ok(Action::ModuleFirmware { parts, .. }) => format!("{} parts", parts.len()),
            Ok(other) => format!("{other:?}"),
            Err(error) => error,
        });
    }

    #[test]
    fn commands_are_these_bytes() {
        let module = "2468002401234567";
        check(module, "instant_uplink", "", &expect!["None 00 []"]);
        check(module, "get_parameters", r#"{"sensor":"0121"}"#, &expect!["Some(121) 0d [00]"]);
        check(module, "clear_counters", r#"{"contact":2}"#, &expect!["None 10 [02]"]);
        check(
            module,
            "output",
            r#"{"output_1":{"mode":1,"ms":500}}"#,
            &expect!["None 11 [01, f4, 01, ff, 00, 00]"],
        );
        check(module, "restart", "{}", &expect!["None fd []"]);
        let firmware = STANDARD.encode([1; 300]);
        let update = format!(r#"{{"hardware_id":7,"firmware_base64":"{firmware}"}}"#);
        check(module, "update_firmware", &update, &expect!["3 parts"]);
        check("router", "router_version", "", &expect!["02"]);
        check("router", "device_list", "", &expect!["cf"]);
        check("router", "device", r#"{"index":99}"#, &expect!["66"]);
        check("router", "remove_device", r#"{"index":98}"#, &expect!["ce"]);
        check("router", "remove_all_devices", "", &expect!["6b"]);
        check("router", "scan_mode", "", &expect!["67"]);
        check("router", "scan_mode", r#"{"set":"legacy"}"#, &expect!["6a"]);
        check("router", "keepalive", "", &expect!["d0"]);
        check("router", "restart", "", &expect!["RouterRestart"]);
    }

    #[test]
    fn says_what_is_wrong_with_a_command() {
        let error = |device: &str, name: &str, payload: &str| {
            parse(target_of(device, "router").unwrap(), name, payload.as_bytes()).unwrap_err()
        };
        let module = "2468002401234567";
        assert!(error(module, "keepalive", "").contains("not `keepalive`"));
        assert!(error("router", "output", "").contains("not `output`"));
        assert!(error(module, "output", "{}").starts_with("output_1: "));
        assert!(error(module, "clear_counters", r#"{"contact":3}"#).starts_with("contact: "));
        assert!(error(module, "restart", r#"{"sensor":"x"}"#).starts_with("sensor: "));
        assert!(error(module, "restart", "[").contains("EOF"));
        assert!(error("router", "device", r#"{"index":100}"#).starts_with("index: "));
        assert!(error("router", "remove_device", r#"{"index":99}"#).starts_with("index: "));
        assert!(
            error("router", "update_firmware", r#"{"firmware_base64":"%"}"#).starts_with("firmware_base64: ")
        );
        assert!(target_of("other", "router").is_err());
    }

    #[test]
    fn a_reply_can_be_a_command() {
        let sender = Some(Id(0xab));
        let of = |payload: &str| {
            of_reply(payload.as_bytes(), sender, "router").map(|(name, target, _)| (name, target))
        };
        let module = Target::Module(Id(0xab));
        assert_eq!(of(r#"{"command":"instant_uplink"}"#), Ok(("instant_uplink".to_owned(), module)));
        assert_eq!(of(r#"{"command":"keepalive"}"#), Ok(("keepalive".to_owned(), Target::Router)));
        let other = of(r#"{"command":"restart","device":"00000000000000cd"}"#);
        assert_eq!(other, Ok(("restart".to_owned(), Target::Module(Id(0xcd)))));
        for bad in ["", "[]", r#"{"device":"router"}"#, r#"{"command":"restart","device":7}"#] {
            assert!(of(bad).is_err(), "{bad}");
        }
        let (_, _, rest) =
            of_reply(br#"{"command":"output","output_1":{"mode":1}}"#, sender, "router").unwrap();
        assert_eq!(rest, br#"{"output_1":{"mode":1}}"#);
    }
}
