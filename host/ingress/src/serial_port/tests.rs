//! With pseudo terminals, which are serial ports in all but the wire.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::testing::Cable;
use super::*;
use crate::contract::in_time;

fn port(port: &str) -> SerialPort {
    SerialPort::new(port, 115_200, "8N1", FlowControl::None).unwrap()
}

#[tokio::test]
async fn bytes_go_both_ways_and_an_unplugged_port_ends() {
    let mut cable = Cable::new().await;
    let configured = port(cable.host().to_str().unwrap());
    let (mut host, mut device) = (configured.open().unwrap(), cable.device());
    assert_eq!(host.path(), cable.host());
    let mut read = [0; 4];
    device.write_all(b"\0\r\n\xff").await.unwrap();
    in_time(host.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"\0\r\n\xff");
    host.write_all(b"\x03\x11\x13\x1a").await.unwrap();
    host.flush().await.unwrap();
    in_time(device.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"\x03\x11\x13\x1a");
    cable.unplug();
    let ended = in_time(host.read(&mut read)).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let error = configured.open().unwrap_err().to_string();
    assert_eq!(error, format!("opening {}: there is no such device", cable.host().display()));
    cable.plug_in().await;
    let (mut host, mut device) = (configured.open().unwrap(), cable.device());
    device.write_all(b"back").await.unwrap();
    in_time(host.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"back");
}

#[tokio::test]
async fn who_opens_it_has_it_alone_and_may_forget_what_came() {
    let cable = Cable::new().await;
    let configured = port(cable.host().to_str().unwrap());
    let (mut host, mut device) = (configured.open().unwrap(), cable.device());
    let error = configured.open().unwrap_err().to_string();
    assert!(error.starts_with(&format!("opening {}: ", cable.host().display())), "{error}");
    device.write_all(b"old").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    host.discard_input().unwrap();
    device.write_all(b"new").await.unwrap();
    let mut read = [0; 3];
    in_time(host.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"new");
}

#[tokio::test]
async fn what_cannot_be_opened_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let error = port(path).open().unwrap_err().to_string();
    assert!(error.starts_with(&format!("opening {path}: ")), "{error}");
    let error = port("ffff:fffe:none").open().unwrap_err().to_string();
    assert_eq!(error, "opening USB device ffff:fffe:none: no such device is plugged in");
}

#[test]
fn names_the_setting_that_cannot_work() {
    let setting =
        |port, baud, mode| SerialPort::new(port, baud, mode, FlowControl::None).unwrap_err().setting;
    assert_eq!(setting("ttyUSB0", 9600, "8N1"), "port");
    assert_eq!(setting("/dev/ttyUSB0", 0, "8N1"), "baud");
    assert_eq!(setting("/dev/ttyUSB0", 9600, "8N"), "mode");
    assert_eq!(port("0403:6001:A1").name(), "USB device 0403:6001:A1");
}
