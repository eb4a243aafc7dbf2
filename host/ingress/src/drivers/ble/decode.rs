//! What advertisements say: iBeacon, Eddystone, and what no format is known of. Pure.

use std::collections::BTreeSet;
use std::fmt::Write;

use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

/// One advertisement, as it was heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Advertisement {
    /// `11:22:33:44:55:66`
    pub(crate) address: Box<str>,
    /// In dBm.
    pub(crate) rssi: Option<i16>,
    /// By the company's number (Bluetooth Assigned Numbers, section 7).
    pub(crate) manufacturer: Vec<(u16, Vec<u8>)>,
    pub(crate) service: Vec<(Uuid, Vec<u8>)>,
}

/// Which formats are looked for, and what is passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reader {
    pub(crate) ibeacon: bool,
    pub(crate) eddystone: bool,
    pub(crate) manufacturer: bool,
    pub(crate) service: bool,
    /// Of iBeacons; all of them if it is empty.
    pub(crate) allowed: BTreeSet<Uuid>,
}

/// What one part of an advertisement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// `ibeacon`, `eddystone-uid`, `eddystone-url`, `eddystone-tlm`, `manufacturer` or `service`.
    pub(crate) format: &'static str,
    /// What the beacon calls itself, if it does: `UUID:MAJOR:MINOR`, `NAMESPACE:INSTANCE`.
    pub(crate) beacon: Option<Box<str>>,
    /// Two with the same key say the same.
    pub(crate) key: Box<str>,
    /// JSON.
    pub(crate) payload: Bytes,
}

/// Apple's number.
const APPLE: u16 = 0x004c;
/// What Apple's data begins with if it is an iBeacon: the type, and how many bytes follow.
const IBEACON: [u8; 2] = [0x02, 0x15];
/// The service of Eddystone's frames.
pub(crate) const EDDYSTONE_SERVICE: Uuid = short(0xfeaa);
/// What Eddystone has for a temperature that it does not measure.
const NO_TEMPERATURE: i16 = i16::MIN;

/// Apple, "Proximity Beacon Specification": after its prefix 16 bytes of UUID, major and minor in network order, and
/// the power at one metre.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct IBeacon {
    uuid: Uuid,
    major: u16,
    minor: u16,
    tx_power: i8,
}

/// A frame of the Eddystone protocol specification.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Eddystone {
    Uid { namespace: String, instance: String, tx_power: i8 },
    Url { url: String, tx_power: i8 },
    Tlm(Telemetry),
}

/// Unencrypted, version 0. What is not supported is nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Telemetry {
    battery_mv: Option<u16>,
    temperature_c: Option<f64>,
    advertisements: u32,
    uptime_s: f64,
}

#[derive(Serialize)]
struct Heard<'a, T> {
    #[serde(flatten)]
    said: T,
    rssi: Option<i16>,
    address: &'a str,
}

#[derive(Serialize)]
struct RawManufacturer {
    company: u16,
    data: String,
}

#[derive(Serialize)]
struct RawService {
    service: Uuid,
    data: String,
}

impl Reader {
    /// What is said in the formats that are looked for. Raw data is what none of those took.
    pub(crate) fn decode(&self, heard: &Advertisement) -> Vec<Sighting> {
        let mut sightings = Vec::new();
        for (company, data) in &heard.manufacturer {
            match ibeacon(*company, data).filter(|_| self.ibeacon) {
                Some(beacon) if self.is_allowed(&beacon) => sightings.push(of_ibeacon(beacon, heard)),
                Some(_) => {}
                None if self.manufacturer => sightings.push(of_manufacturer(*company, data, heard)),
                None => {}
            }
        }
        for (service, data) in &heard.service {
            match eddystone(*service, data).filter(|_| self.eddystone) {
                Some(frame) => sightings.push(of_eddystone(frame, data, heard)),
                None if self.service => sightings.push(of_service(*service, data, heard)),
                None => {}
            }
        }
        sightings
    }

    fn is_allowed(&self, beacon: &IBeacon) -> bool {
        self.allowed.is_empty() || self.allowed.contains(&beacon.uuid)
    }
}

/// The data of an iBeacon, if it is one.
pub(crate) fn ibeacon(company: u16, data: &[u8]) -> Option<IBeacon> {
    let body: &[u8; 21] = data.strip_prefix(&IBEACON)?.first_chunk()?;
    let (uuid, rest) = body.split_first_chunk::<16>()?;
    (company == APPLE).then(|| IBeacon {
        uuid: Uuid::from_bytes(*uuid),
        major: u16::from_be_bytes([rest[0], rest[1]]),
        minor: u16::from_be_bytes([rest[2], rest[3]]),
        tx_power: i8::from_be_bytes([rest[4]]),
    })
}

/// A frame of Eddystone, if it is one of those that are known: UID, URL, and TLM that is not encrypted.
pub(crate) fn eddystone(service: Uuid, data: &[u8]) -> Option<Eddystone> {
    if service != EDDYSTONE_SERVICE {
        return None;
    }
    match *data.first()? {
        0x00 => {
            let frame: &[u8; 18] = data.first_chunk()?;
            let tx_power = i8::from_be_bytes([frame[1]]);
            Some(Eddystone::Uid { namespace: hex(&frame[2..12]), instance: hex(&frame[12..]), tx_power })
        }
        0x10 => {
            let tx_power = i8::from_be_bytes([*data.get(1)?]);
            Some(Eddystone::Url { url: url(data.get(2..)?)?, tx_power })
        }
        0x20 => telemetry(data).map(Eddystone::Tlm),
        _ => None,
    }
}

fn telemetry(data: &[u8]) -> Option<Telemetry> {
    let frame: &[u8; 14] = data.first_chunk()?;
    let version = frame[1];
    let temperature = i16::from_be_bytes([frame[4], frame[5]]);
    let battery = u16::from_be_bytes([frame[2], frame[3]]);
    let long = |at: usize| u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    (version == 0).then(|| Telemetry {
        battery_mv: Some(battery).filter(|millivolts| *millivolts > 0),
        // 8.8 fixed point.
        temperature_c: Some(temperature)
            .filter(|value| *value != NO_TEMPERATURE)
            .map(|value| f64::from(value) / 256.0),
        advertisements: long(6),
        uptime_s: f64::from(long(10)) / 10.0,
    })
}

/// The Eddystone-URL encoding: a scheme, and text in which some bytes stand for the ends of host names.
fn url(data: &[u8]) -> Option<String> {
    const SCHEMES: [&str; 4] = ["http://www.", "https://www.", "http://", "https://"];
    const ENDS: [&str; 7] = [".com", ".org", ".edu", ".net", ".info", ".biz", ".gov"];
    let (scheme, text) = data.split_first()?;
    let mut url = (*SCHEMES.get(usize::from(*scheme))?).to_owned();
    for byte in text {
        match *byte {
            at @ 0..=6 => {
                url.push_str(ENDS[usize::from(at)]);
                url.push('/');
            }
            at @ 7..=13 => url.push_str(ENDS[usize::from(at - 7)]),
            byte if byte.is_ascii_graphic() => url.push(char::from(byte)),
            _ => return None,
        }
    }
    Some(url)
}

fn of_ibeacon(beacon: IBeacon, heard: &Advertisement) -> Sighting {
    let name = format!("{}:{}:{}", beacon.uuid, beacon.major, beacon.minor);
    sighting("ibeacon", Some(&name), name.clone(), beacon, heard)
}

fn of_eddystone(frame: Eddystone, data: &[u8], heard: &Advertisement) -> Sighting {
    match &frame {
        Eddystone::Uid { namespace, instance, .. } => {
            let name = format!("{namespace}:{instance}");
            sighting("eddystone-uid", Some(&name), format!("uid {name}"), frame, heard)
        }
        Eddystone::Url { url, .. } => {
            let key = format!("url {} {url}", heard.address);
            sighting("eddystone-url", None, key, frame, heard)
        }
        Eddystone::Tlm(_) => {
            let key = format!("tlm {} {}", heard.address, hex(data));
            sighting("eddystone-tlm", None, key, frame, heard)
        }
    }
}

fn of_manufacturer(company: u16, data: &[u8], heard: &Advertisement) -> Sighting {
    let data = hex(data);
    let key = format!("{company} {} {data}", heard.address);
    sighting("manufacturer", None, key, RawManufacturer { company, data }, heard)
}

fn of_service(service: Uuid, data: &[u8], heard: &Advertisement) -> Sighting {
    let data = hex(data);
    let key = format!("{service} {} {data}", heard.address);
    sighting("service", None, key, RawService { service, data }, heard)
}

fn sighting(
    format: &'static str,
    beacon: Option<&str>,
    key: String,
    said: impl Serialize,
    heard: &Advertisement,
) -> Sighting {
    let body = Heard { said, rssi: heard.rssi, address: &heard.address };
    let payload = serde_json::to_vec(&body).expect("numbers and texts are JSON");
    Sighting { format, beacon: beacon.map(Into::into), key: key.into(), payload: payload.into() }
}

/// A UUID of 16 bits (Bluetooth Core 5.4, volume 3, part B, section 2.5.1).
const fn short(uuid: u16) -> Uuid {
    Uuid::from_u128(0x0000_0000_0000_1000_8000_0080_5f9b_34fb | (uuid as u128) << 96)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("written to memory");
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let hex: String = hex.split_whitespace().collect();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn all() -> Reader {
        Reader { ibeacon: true, eddystone: true, manufacturer: true, service: true, ..Reader::default() }
    }

    fn heard(manufacturer: &[(u16, &str)], service: &[(u16, &str)]) -> Advertisement {
        Advertisement {
            address: "11:22:33:44:55:66".into(),
            rssi: Some(-60),
            manufacturer: manufacturer.iter().map(|(company, hex)| (*company, bytes(hex))).collect(),
            service: service.iter().map(|(uuid, hex)| (short(*uuid), bytes(hex))).collect(),
        }
    }

    const BEACON: &str = "0215 f7826da64fa24e988024bc5b71e0893e 0001 ffff c5";

    fn check(reader: &Reader, heard: &Advertisement, expected: &Expect) {
        let mut text = String::new();
        for Sighting { format, beacon, key, payload } in reader.decode(heard) {
            let payload = std::str::from_utf8(&payload).unwrap();
            writeln!(text, "{format} {beacon:?}\n  {key}\n  {payload}").unwrap();
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn an_ibeacon_is_read() {
        let beacon = heard(&[(0x4c, BEACON)], &[]);
        check(
            &all(),
            &beacon,
            &expect![[r#"
            ibeacon Some("f7826da6-4fa2-4e98-8024-bc5b71e0893e:1:65535")
              f7826da6-4fa2-4e98-8024-bc5b71e0893e:1:65535
              {"uuid":"f7826da6-4fa2-4e98-8024-bc5b71e0893e","major":1,"minor":65535,"tx_power":-59,"rssi":-60,"address":"11:22:33:44:55:66"}
        "#]],
        );
        // Some send more than they should.
        let longer = heard(&[(0x4c, &format!("{BEACON} 00"))], &[]);
        assert_eq!(all().decode(&longer), all().decode(&beacon));
    }

    #[test]
    fn eddystone_is_read() {
        let frames = heard(
            &[],
            &[
                (0xfeaa, "00 ee 00112233445566778899 aabbccddeeff 0000"),
                (0xfeaa, "10 f0 03 6578616d706c65 00 61 08"),
                (0xfeaa, "20 00 0bb8 1580 00000101 00002710"),
                (0xfeaa, "20 00 0000 8000 00000000 00000000"),
            ],
        );
        check(
            &all(),
            &frames,
            &expect![[r#"
            eddystone-uid Some("00112233445566778899:aabbccddeeff")
              uid 00112233445566778899:aabbccddeeff
              {"namespace":"00112233445566778899","instance":"aabbccddeeff","tx_power":-18,"rssi":-60,"address":"11:22:33:44:55:66"}
            eddystone-url None
              url 11:22:33:44:55:66 https://example.com/a.org
              {"url":"https://example.com/a.org","tx_power":-16,"rssi":-60,"address":"11:22:33:44:55:66"}
            eddystone-tlm None
              tlm 11:22:33:44:55:66 20000bb815800000010100002710
              {"battery_mv":3000,"temperature_c":21.5,"advertisements":257,"uptime_s":1000.0,"rssi":-60,"address":"11:22:33:44:55:66"}
            eddystone-tlm None
              tlm 11:22:33:44:55:66 2000000080000000000000000000
              {"battery_mv":null,"temperature_c":null,"advertisements":0,"uptime_s":0.0,"rssi":-60,"address":"11:22:33:44:55:66"}
        "#]],
        );
    }

    #[test]
    fn raw_is_what_no_format_took() {
        let mixed = heard(&[(0x4c, BEACON), (0x4c, "1005 0b1c"), (0x0499, "05")], &[(0x181a, "d709")]);
        check(
            &all(),
            &mixed,
            &expect![[r#"
            ibeacon Some("f7826da6-4fa2-4e98-8024-bc5b71e0893e:1:65535")
              f7826da6-4fa2-4e98-8024-bc5b71e0893e:1:65535
              {"uuid":"f7826da6-4fa2-4e98-8024-bc5b71e0893e","major":1,"minor":65535,"tx_power":-59,"rssi":-60,"address":"11:22:33:44:55:66"}
            manufacturer None
              76 11:22:33:44:55:66 10050b1c
              {"company":76,"data":"10050b1c","rssi":-60,"address":"11:22:33:44:55:66"}
            manufacturer None
              1177 11:22:33:44:55:66 05
              {"company":1177,"data":"05","rssi":-60,"address":"11:22:33:44:55:66"}
            service None
              0000181a-0000-1000-8000-00805f9b34fb 11:22:33:44:55:66 d709
              {"service":"0000181a-0000-1000-8000-00805f9b34fb","data":"d709","rssi":-60,"address":"11:22:33:44:55:66"}
        "#]],
        );
        let only = |reader: Reader| reader.decode(&mixed).into_iter().map(|s| s.format).collect::<Vec<_>>();
        assert_eq!(only(Reader { ibeacon: true, ..Reader::default() }), ["ibeacon"]);
        let raw = Reader { manufacturer: true, ..Reader::default() };
        assert_eq!(only(raw), ["manufacturer"; 3], "an iBeacon, too, if it is not looked for");
    }

    #[test]
    fn other_uuids_are_passed_over() {
        let allow = |uuid: &str| Reader { allowed: [uuid.parse().unwrap()].into(), ..all() };
        let beacon = heard(&[(0x4c, BEACON)], &[]);
        assert_eq!(allow("F7826DA6-4FA2-4E98-8024-BC5B71E0893E").decode(&beacon).len(), 1);
        assert_eq!(allow("00000000-4FA2-4E98-8024-BC5B71E0893E").decode(&beacon), []);
    }

    #[test]
    fn what_is_cut_short_or_unknown_is_none() {
        let body = bytes(BEACON);
        for length in 0..body.len() {
            assert_eq!(ibeacon(APPLE, &body[..length]), None, "{length} bytes");
        }
        assert_eq!(ibeacon(0x4d, &body), None);
        for bad in [
            "",
            "00",
            "10",
            "10f0",
            "10f004",
            "10f0030e",
            "10f003ff",
            "20",
            "2001 00000000 00000000 00000000",
            "20000bb8158000000101000027",
            "30 00",
            "00 ee 00112233445566778899 aabbccddee",
        ] {
            assert_eq!(eddystone(EDDYSTONE_SERVICE, &bytes(bad)), None, "{bad}");
        }
        assert_eq!(eddystone(short(0xfeab), &bytes("10f00361")), None);
    }
}
