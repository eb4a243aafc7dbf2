//! Every decode, for those who throw garbage at it: `tests/fuzz`.

use std::net::SocketAddr;

use bytes::Bytes;
use sandbar_reading::ContentType;

use crate::drivers::websocket::PathConfig;
use crate::drivers::websocket::decode::Kind;
use crate::drivers::websocket::paths::Opened;
use crate::drivers::{
    ble, bravejig, camera, coap, email, files, gps, kraken, modbus, mqtt, mqtt_client, pyaiot, udp, webhook,
    websocket,
};
use crate::naming::Naming;
use crate::stream::{self, Far};

/// One that reads what a peer sent.
pub struct Decoder {
    pub name: &'static str,
    /// What it takes; garbage is made from these.
    pub seeds: &'static [&'static [u8]],
    /// Whether it took it. It may refuse anything, and must not panic.
    pub decode: fn(&[u8]) -> bool,
}

/// One a driver.
pub const DECODERS: &[Decoder] = &[
    Decoder {
        name: "coap",
        seeds: &[
            b"\x42\x02\x00\x07\xAA\xBB\xB2d1\x04temp\x11\x32\x38a=b1\xFF21.5",
            b"\x48\x03\x12\x3412345678\xB2d1\x01x\x10\xC1\x08\xFF0123456789abcdef",
            b"\x60\x45\x00\x01\xC1\x28\xFF</a>;obs;ct=50,</b>;rt=\"x y\"",
        ],
        decode: coap::decodes,
    },
    Decoder {
        name: "kraken",
        seeds: &[
            b"\x0a\x06serial\x12\x18application/octet-stream\x1a\x17{\"device_name\":\"press\"}\x22\x0421.5",
            b"\x0a\x06camera\x12\x0aimage/jpeg\x1a\x2c{\"camera_name\":\"gate\",\"width\":640,\"x\":[null]}",
        ],
        decode: |bytes| kraken::decode::decode_bytes(bytes).is_ok(),
    },
    Decoder {
        name: "tcp",
        seeds: &[b"21.5", br#"{"id":"d1","t":[1,2.5e3,null]}"#, b"\0\xff"],
        decode: |bytes| {
            let (naming, peer, bytes) = plain("tcp/{device}", bytes);
            stream::decode::decode(&naming, &ContentType::JSON, &Far::at(peer), bytes).is_ok()
        },
    },
    Decoder {
        name: "gps",
        seeds: &[
            b"$GPGGA,092750.000,5321.6802,N,00630.3372,W,1,8,1.03,61.7,M,55.2,M,,*76",
            b"$GPRMC,092750.000,A,5321.6802,N,00630.3372,W,0.02,31.66,280511,,,A*43",
            b"$GPGSA,A,3,10,07,05,02,29,04,08,13,,,,,1.72,1.03,1.38*0A",
            b"$GNGNS,092750.00,5321.6802,N,00630.3372,W,AAN,08,1.03,61.7,55.2,,*",
        ],
        // Most of what is changed has another checksum: it is put right, so that what is behind it is reached.
        decode: |bytes| gps::decode::decodes(bytes),
    },
    Decoder {
        name: "gpsd",
        seeds: &[
            br#"{"class":"TPV","mode":3,"time":"2011-05-28T09:27:50.000Z","lat":53.3,"lon":-6.5,"altMSL":61.7,"epx":3.0}"#,
            br#"{"class":"SKY","uSat":8,"satellites":[{"PRN":10,"used":true}]}"#,
        ],
        decode: |bytes| gps::decode::Talk::gpsd().line(bytes).is_ok(),
    },
    Decoder {
        name: "modbus",
        seeds: &[b"\x43\x66\x19\x9aPUMP 7\0\0\0\0\0\0\0\0\0\x07", b"\0\x01"],
        decode: modbus::decode::decode_bytes,
    },
    Decoder {
        name: "sandbar",
        seeds: &[
            b"\0\0\0\x8b{\"say\":\"reading\",\"id\":\"00000000000000000000000007\",\"time\":\"2026-01-01T07:00:00Z\",\"topic\":\"a/b\",\"content_type\":\"text/plain\",\"attributes\":[]}21.5",
            b"\0\0\0\x45{\"say\":\"told\",\"id\":\"00000000000000000000000007\",\"told\":{\"is\":\"done\"}}",
        ],
        decode: |bytes| sandbar_reading::relay::Up::decode(&Bytes::copy_from_slice(bytes)).is_ok(),
    },
    Decoder {
        name: "sandbar answers",
        seeds: &[
            b"\0\0\0\x31{\"say\":\"taken\",\"id\":\"00000000000000000000000007\"}",
            b"\0\0\0\x69{\"say\":\"command\",\"id\":\"00000000000000000000000007\",\"device\":\"d\",\"name\":\"set\",\"content_type\":\"text/plain\"}21.5",
        ],
        decode: |bytes| sandbar_reading::relay::Down::decode(&Bytes::copy_from_slice(bytes)).is_ok(),
    },
    Decoder { name: "framing", seeds: stream::garbage::STREAMS, decode: stream::garbage::cuts },
    Decoder {
        name: "serial",
        seeds: &[b"21.5", br#"{"id":"s1","t":[1,2.5e3,null]}"#, b"\x02ST,GS,+0012.5kg\x03"],
        decode: |bytes| {
            let naming = Naming::without_address("serial/{device}", Some("d"), Some("/id"));
            let naming = naming.expect("settings that work");
            let bytes = Bytes::copy_from_slice(bytes);
            stream::decode::decode(&naming, &ContentType::JSON, &Far::on("/dev/ttyUSB0"), bytes).is_ok()
        },
    },
    Decoder {
        name: "udp",
        seeds: &[b"21.5", br#"{"id":17,"t":[1,2.5e3,null]}"#, b"\0\xff"],
        decode: |bytes| {
            let (naming, peer, bytes) = plain("{ip}/{port}/{device}", bytes);
            udp::decode::decode(&naming, &ContentType::JSON, peer, bytes).is_ok()
        },
    },
    Decoder {
        name: "websocket",
        seeds: &[b"21.5", br#"{"id":17,"t":[1,2.5e3,null]}"#, b"\0\xff"],
        decode: |bytes| {
            let decoded =
                |kind| websocket::decode::decode(&opened(), kind, Bytes::copy_from_slice(bytes)).is_ok();
            match std::str::from_utf8(bytes) {
                Ok(_) => decoded(Kind::Text),
                Err(_) => decoded(Kind::Binary),
            }
        },
    },
    Decoder { name: "webhook", seeds: webhook::garbage::REQUESTS, decode: webhook::garbage::decodes },
    Decoder {
        name: "bravejig",
        seeds: &[
            b"\x01\0\x10\0\0\0\0\x6agE#\x01$\0h$\x23\x01\xc4\x07\0Z\x01\0\0\0\x6a\x01\0\0\0\xacA\0\x004B",
            b"\x01\x02\0\0\0\x6a\xcf\x88wfUD3\"\x11\x01\x01\0\0\0\0\0\0\0\x01\x01\0\0\0\x6agE#\x01$\0h$\x21\x01\x02\0\x0d\x08",
            b"\x01\x03\0\0\0\x6a\0\x01\xff\0\0\0\x6a\x04\x01\x02\0\0\0\x6a\x02\x88wfUD3\"\x11\x01\x04\x02",
        ],
        decode: bravejig::garbage::decodes,
    },
    Decoder {
        name: "files",
        seeds: &[b"21.5\n22.5\r\n\n23.5", b"{\"a\":1}\n{\"a\":2}\n", b"\n\xff\0\r\n"],
        decode: |bytes| {
            let lines = files::lines::cut(bytes, 16, false);
            // They follow each other, and none reaches beyond the end.
            assert!(lines.windows(2).all(|pair| pair[0].end <= pair[1].at));
            lines.last().is_some_and(|line| line.end <= bytes.len())
        },
    },
    Decoder { name: "mqtt 3.1.1", seeds: mqtt::garbage::V3, decode: mqtt::garbage::decodes_v3 },
    Decoder { name: "mqtt 5.0", seeds: mqtt::garbage::V5, decode: mqtt::garbage::decodes_v5 },
    Decoder {
        name: "mqtt-client 3.1.1",
        seeds: mqtt_client::garbage::V3,
        decode: mqtt_client::garbage::decodes_v3,
    },
    Decoder {
        name: "mqtt-client 5.0",
        seeds: mqtt_client::garbage::V5,
        decode: mqtt_client::garbage::decodes_v5,
    },
    Decoder {
        name: "mqtt-sn",
        seeds: &[b"\x08\x04\x0C\x01\x00\x3Cab", b"\x09\x0C\x30\x00\x05\x00\x07hi", b"\x01\x00\x0B\x0C\x62ab\x00\x00hi"],
        decode: mqtt::sn::decodes,
    },
    Decoder {
        name: "pyaiot",
        seeds: &[
            br#"{"type":"update","data":{"uid":"u","endpoint":"led","payload":"1"}}"#,
            br#"{"type":"update","uid":"u","endpoint":"t","data":1,"dst":"c"}"#,
            b"alive:node-1",
            b"time:12:30",
        ],
        decode: pyaiot::decodes,
    },
    Decoder { name: "email", seeds: email::garbage::MESSAGES, decode: email::garbage::decodes },
    Decoder { name: "email commands", seeds: email::garbage::COMMANDS, decode: email::garbage::answers },
    Decoder {
        name: "ble",
        seeds: &[
            b"\x02\x15\xf7\x82\x6d\xa6\x4f\xa2\x4e\x98\x80\x24\xbc\x5b\x71\xe0\x89\x3e\0\x01\0\x02\xc5",
            b"\x02\x15",
        ],
        decode: |bytes| ble::decode::ibeacon(0x004c, bytes).is_some(),
    },
    Decoder {
        name: "ble eddystone",
        seeds: &[
            b"\0\xee\0\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff\0\0",
            b"\x10\xf0\x03example\0a\x08",
            b"\x20\0\x0b\xb8\x15\x80\0\0\x01\x01\0\0\x27\x10",
        ],
        decode: |bytes| ble::decode::eddystone(ble::decode::EDDYSTONE_SERVICE, bytes).is_some(),
    },
    Decoder { name: "camera", seeds: camera::garbage::PICTURES, decode: camera::garbage::is_picture },
    Decoder { name: "camera stream", seeds: camera::garbage::STREAMS, decode: camera::garbage::is_stream },
    Decoder {
        name: "camera login",
        seeds: camera::garbage::CHALLENGES,
        decode: camera::garbage::is_challenge,
    },
];

/// A connection whose messages name their device.
fn opened() -> Opened {
    let config: PathConfig =
        serde_json::from_str(r#"{"path":"/ws","topic":"ws/{device}","device_pointer":"/id"}"#)
            .expect("settings that can be read");
    Opened::example(&config)
}

fn plain(topic: &str, bytes: &[u8]) -> (Naming, SocketAddr, Bytes) {
    let naming = Naming::new(topic, None, Some("/id")).expect("settings that work");
    (naming, ([127, 0, 0, 1], 9000).into(), Bytes::copy_from_slice(bytes))
}
