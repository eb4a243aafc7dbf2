//! What modules measure, as JSON with units. Pure.

use serde_json::{Map, Value, json};

use super::parameters::Parameters;
use super::parser::{u16_at, u32_at};
use super::wire::Uplink;
use crate::widen::widened;

/// Of a module itself, not of its sensor: its parameters.
pub(super) const MAIN_UNIT: u16 = 0x0000;

/// Bytes of data before the samples.
const HEAD: usize = 8;

/// A sensor, and what one sample of it is.
struct Sensor {
    id: u16,
    name: &'static str,
    size: usize,
    read: fn(&[u8], &mut Map<String, Value>),
}

const SENSORS: [Sensor; 8] = [
    Sensor {
        id: 0x0121,
        name: "illuminance",
        size: 4,
        read: |bytes, into| floats(bytes, &["illuminance_lx"], into),
    },
    Sensor {
        id: 0x0122,
        name: "acceleration",
        size: 12,
        read: |bytes, into| {
            floats(bytes, &["acceleration_x_mg", "acceleration_y_mg", "acceleration_z_mg"], into);
        },
    },
    Sensor {
        id: 0x0123,
        name: "temperature_humidity",
        size: 8,
        read: |bytes, into| floats(bytes, &["temperature_celsius", "humidity_percent"], into),
    },
    Sensor {
        id: 0x0124,
        name: "pressure",
        size: 4,
        read: |bytes, into| floats(bytes, &["pressure_hpa"], into),
    },
    Sensor {
        id: 0x0125,
        name: "distance",
        size: 2,
        read: |bytes, into| drop(into.insert("distance_mm".to_owned(), u16_at(bytes, 0).into())),
    },
    Sensor { id: 0x0126, name: "dry_contact", size: 14, read: contacts },
    Sensor { id: 0x0127, name: "wet_contact", size: 14, read: contacts },
    Sensor {
        id: 0x0128,
        name: "contact_output",
        size: 2,
        read: |bytes, into| {
            into.insert("output_1".to_owned(), bytes[0].into());
            into.insert("output_2".to_owned(), bytes[1].into());
        },
    },
];

fn floats(bytes: &[u8], names: &[&str], into: &mut Map<String, Value>) {
    for (index, name) in names.iter().enumerate() {
        // What is no number is null.
        into.insert((*name).to_owned(), json!(widened(f32_at(bytes, index * 4))));
    }
}

fn contacts(bytes: &[u8], into: &mut Map<String, Value>) {
    for (name, value) in [
        ("contact_1", u32::from(bytes[0])),
        ("contact_2", u32::from(bytes[1])),
        ("count_1", u32::from(u16_at(bytes, 2))),
        ("total_1", u32_at(bytes, 4)),
        ("count_2", u32::from(u16_at(bytes, 8))),
        ("total_2", u32_at(bytes, 10)),
    ] {
        into.insert(name.to_owned(), value.into());
    }
}

fn f32_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_bits(u32_at(bytes, at))
}

fn sensor(id: u16) -> Option<&'static Sensor> {
    SENSORS.iter().find(|sensor| sensor.id == id)
}

/// `0121`, or its name: `illuminance`.
pub(super) fn sensor_of(text: &str) -> Option<u16> {
    let by_id = || u16::from_str_radix(text, 16).ok().filter(|id| text.len() == 4 && is_sensor(*id));
    SENSORS.iter().find(|sensor| sensor.name == text).map(|sensor| sensor.id).or_else(by_id)
}

pub(super) fn is_sensor(id: u16) -> bool {
    id == MAIN_UNIT || sensor(id).is_some()
}

/// What topics call it: `illuminance`; the four digits of one that is not known.
pub(super) fn name(id: u16) -> String {
    match sensor(id) {
        Some(sensor) => sensor.name.to_owned(),
        None if id == MAIN_UNIT => "parameters".to_owned(),
        None => format!("{id:04x}"),
    }
}

/// Whether an uplink of the sensor can have this data.
pub(super) fn fits(id: u16, data: &[u8]) -> bool {
    match sensor(id) {
        Some(sensor) => data.len() >= HEAD && data.len() - HEAD == usize::from(u16_at(data, 6)) * sensor.size,
        None => id == MAIN_UNIT && Parameters::read(data).is_some(),
    }
}

/// One object for each sample. Nothing, of data that does not [fit](fits).
pub(super) fn decode(uplink: &Uplink) -> Vec<Value> {
    if !fits(uplink.sensor, &uplink.data) {
        return Vec::new();
    }
    let common = json!({
        "device": uplink.device.to_string(),
        "sensor_id": format!("{:04x}", uplink.sensor),
        "sensor": name(uplink.sensor),
        "rssi_dbm": uplink.rssi,
        "order": uplink.order,
    });
    let Value::Object(common) = common else { return Vec::new() };
    let data = &uplink.data;
    let Some(sensor) = sensor(uplink.sensor) else {
        let parameters = Parameters::read(data).and_then(|parameters| serde_json::to_value(parameters).ok());
        let mut object = common;
        object.extend(parameters.map(|parameters| ("parameters".to_owned(), parameters)));
        return vec![Value::Object(object)];
    };
    let samples = data[HEAD..].chunks_exact(sensor.size);
    let count = samples.len();
    let sample = |(number, bytes): (usize, &[u8])| {
        let mut object = common.clone();
        object.extend([
            ("battery_percent".to_owned(), data[0].into()),
            ("sampling".to_owned(), data[1].into()),
            ("module_time_s".to_owned(), u32_at(data, 2).into()),
            ("sample".to_owned(), (number + 1).into()),
            ("samples".to_owned(), count.into()),
        ]);
        (sensor.read)(bytes, &mut object);
        Value::Object(object)
    };
    samples.enumerate().map(sample).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::parser::tests::uplink_bytes;
    use super::super::parser::{Parser, STALL};
    use super::super::wire::Frame;
    use super::*;

    fn check(sensor: u16, samples: &[&[u8]], expected: &Expect) {
        let count = u16::try_from(samples.len()).unwrap().to_le_bytes();
        let head = [&[87, 2][..], &1_790_000_000u32.to_le_bytes(), &count].concat();
        let mut parser = Parser::default();
        parser.push(&uplink_bytes(sensor, &[head, samples.concat()].concat()));
        let Some(Frame::Uplink(uplink)) = parser.next(STALL) else { panic!("no uplink of {sensor:04x}") };
        let mut texts = String::new();
        for mut sample in decode(&uplink) {
            let object = sample.as_object_mut().unwrap();
            for common in ["device", "order", "rssi_dbm", "module_time_s", "sampling", "samples", "sensor_id"]
            {
                assert!(object.remove(common).is_some(), "{common}");
            }
            texts += &format!("{sample}\n");
        }
        expected.assert_eq(&texts);
    }

    #[test]
    fn each_sensor_has_its_units() {
        let f = |value: f32| value.to_le_bytes();
        check(
            0x0121,
            &[&f(120.5), &f(f32::NAN)],
            &expect![[r#"
                {"battery_percent":87,"illuminance_lx":120.5,"sample":1,"sensor":"illuminance"}
                {"battery_percent":87,"illuminance_lx":null,"sample":2,"sensor":"illuminance"}
            "#]],
        );
        check(
            0x0122,
            &[&[f(1.0), f(-2.0), f(1000.25)].concat()],
            &expect![[r#"
                {"acceleration_x_mg":1.0,"acceleration_y_mg":-2.0,"acceleration_z_mg":1000.25,"battery_percent":87,"sample":1,"sensor":"acceleration"}
            "#]],
        );
        check(
            0x0123,
            &[&[f(21.3), f(45.0)].concat()],
            &expect![[r#"
                {"battery_percent":87,"humidity_percent":45.0,"sample":1,"sensor":"temperature_humidity","temperature_celsius":21.3}
            "#]],
        );
        check(
            0x0124,
            &[&f(1013.25)],
            &expect![[r#"
                {"battery_percent":87,"pressure_hpa":1013.25,"sample":1,"sensor":"pressure"}
            "#]],
        );
        check(
            0x0125,
            &[&[0x10, 0x27]],
            &expect![[r#"
                {"battery_percent":87,"distance_mm":10000,"sample":1,"sensor":"distance"}
            "#]],
        );
        let contacts: &[u8] = &[1, 0, 5, 0, 0x70, 0x11, 1, 0, 6, 0, 7, 0, 0, 0];
        check(
            0x0126,
            &[contacts],
            &expect![[r#"
                {"battery_percent":87,"contact_1":1,"contact_2":0,"count_1":5,"count_2":6,"sample":1,"sensor":"dry_contact","total_1":70000,"total_2":7}
            "#]],
        );
        check(
            0x0127,
            &[contacts],
            &expect![[r#"
                {"battery_percent":87,"contact_1":1,"contact_2":0,"count_1":5,"count_2":6,"sample":1,"sensor":"wet_contact","total_1":70000,"total_2":7}
            "#]],
        );
        check(
            0x0128,
            &[&[1, 0]],
            &expect![[r#"
                {"battery_percent":87,"output_1":1,"output_2":0,"sample":1,"sensor":"contact_output"}
            "#]],
        );
    }

    #[test]
    fn sensors_have_ids_and_names() {
        assert_eq!((sensor_of("0125"), sensor_of("distance")), (Some(0x0125), Some(0x0125)));
        assert_eq!((sensor_of("0129"), sensor_of("125"), sensor_of("light")), (None, None, None));
        assert_eq!((name(0x0121), name(0x0200)), ("illuminance".to_owned(), "0200".to_owned()));
    }
}
