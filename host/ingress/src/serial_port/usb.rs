//! Finds the port of a USB device in what the kernel says of it (sysfs).

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Vendor, product and, where there are several of the kind, serial number: `0403:6001:A50285BI`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UsbId {
    vendor: u16,
    product: u16,
    serial: Option<Box<str>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoUsbId;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FindError {
    #[error("no such device is plugged in")]
    Missing,
    #[error("there are several: say which with the serial number: {}", .0.join(", "))]
    Several(Vec<String>),
    #[error("{place}: {problem}")]
    Unreadable { place: String, problem: String },
}

impl UsbId {
    /// The port of the device, in `ttys`: `/sys/class/tty`. A device with several ports has the first one found.
    pub(super) fn find(&self, ttys: &Path) -> Result<PathBuf, FindError> {
        let unreadable = |error: std::io::Error| FindError::Unreadable {
            place: ttys.display().to_string(),
            problem: error.to_string(),
        };
        // By the device in the tree of devices: the names of its ports, sorted.
        let mut found: BTreeMap<PathBuf, Vec<(usize, String)>> = BTreeMap::new();
        for entry in fs::read_dir(ttys).map_err(unreadable)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // One that has gone since is none.
            let Ok(port) = entry.path().join("device").canonicalize() else { continue };
            if let Some(device) = port.ancestors().find(|folder| folder.join("idVendor").is_file())
                && self.is(device)
            {
                found.entry(device.to_owned()).or_default().push((name.len(), name));
            }
        }
        if found.len() > 1 {
            return Err(FindError::Several(found.keys().map(|device| shown(device)).collect()));
        }
        let ports = found.into_values().next().and_then(|ports| ports.into_iter().min());
        ports.map(|(_, name)| Path::new("/dev").join(name)).ok_or(FindError::Missing)
    }

    fn is(&self, device: &Path) -> bool {
        let number = |file: &str| u16::from_str_radix(&attribute(device, file)?, 16).ok();
        number("idVendor") == Some(self.vendor)
            && number("idProduct") == Some(self.product)
            && self
                .serial
                .as_deref()
                .is_none_or(|serial| attribute(device, "serial").as_deref() == Some(serial))
    }
}

fn attribute(device: &Path, file: &str) -> Option<String> {
    Some(fs::read_to_string(device.join(file)).ok()?.trim().to_owned())
}

fn shown(device: &Path) -> String {
    attribute(device, "serial")
        .unwrap_or_else(|| format!("one without a serial number at {}", device.display()))
}

impl FromStr for UsbId {
    type Err = NoUsbId;

    fn from_str(text: &str) -> Result<Self, NoUsbId> {
        let mut parts = text.splitn(3, ':');
        let mut number = || {
            let part = parts.next().filter(|part| part.len() == 4).ok_or(NoUsbId)?;
            u16::from_str_radix(part, 16).map_err(|_| NoUsbId)
        };
        let (vendor, product) = (number()?, number()?);
        match parts.next() {
            Some("") => Err(NoUsbId),
            serial => Ok(Self { vendor, product, serial: serial.map(Into::into) }),
        }
    }
}

impl fmt::Display for UsbId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.product)?;
        self.serial.iter().try_for_each(|serial| write!(f, ":{serial}"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree of devices as the kernel shows it.
    struct Sys(tempfile::TempDir);

    impl Sys {
        fn new() -> Self {
            let sys = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(sys.ttys().join("tty0")).unwrap();
            sys
        }

        fn ttys(&self) -> PathBuf {
            self.0.path().join("class/tty")
        }

        fn plug(&self, place: &str, id: &str, serial: Option<&str>, ports: &[&str]) {
            let device = self.0.path().join("devices/usb1").join(place);
            let (vendor, product) = id.split_once(':').unwrap();
            for (number, port) in ports.iter().enumerate() {
                let interface = device.join(format!("{place}:1.{number}"));
                fs::create_dir_all(&interface).unwrap();
                let tty = self.ttys().join(port);
                fs::create_dir_all(&tty).unwrap();
                symlink(&interface, tty.join("device")).unwrap();
            }
            for (file, text) in [("idVendor", Some(vendor)), ("idProduct", Some(product)), ("serial", serial)]
            {
                if let Some(text) = text {
                    fs::write(device.join(file), format!("{text}\n")).unwrap();
                }
            }
        }

        fn find(&self, id: &str) -> Result<PathBuf, FindError> {
            id.parse::<UsbId>().unwrap().find(&self.ttys())
        }
    }

    #[test]
    fn a_device_is_found_by_what_it_is() {
        let sys = Sys::new();
        assert_eq!(sys.find("0403:6001"), Err(FindError::Missing));
        sys.plug("1-2", "0403:6001", Some("A1"), &["ttyUSB10", "ttyUSB9"]);
        sys.plug("1-3", "067b:2303", None, &["ttyUSB1"]);
        assert_eq!(sys.find("0403:6001"), Ok("/dev/ttyUSB9".into()));
        assert_eq!(sys.find("067B:2303"), Ok("/dev/ttyUSB1".into()));
        assert_eq!(sys.find("067b:2303:A1"), Err(FindError::Missing));
        sys.plug("1-4", "0403:6001", Some("A2"), &["ttyUSB2"]);
        assert_eq!(sys.find("0403:6001"), Err(FindError::Several(vec!["A1".into(), "A2".into()])));
        assert_eq!(sys.find("0403:6001:A2"), Ok("/dev/ttyUSB2".into()));
        let nowhere = "0403:6001".parse::<UsbId>().unwrap().find(Path::new("/nowhere"));
        assert!(matches!(nowhere, Err(FindError::Unreadable { .. })));
    }

    #[test]
    fn an_id_is_four_digits_twice() {
        for wrong in ["", "0403", "403:6001", "0403:60011", "0403:600g", "0403:6001:", "/dev/ttyUSB0"] {
            assert_eq!(wrong.parse::<UsbId>(), Err(NoUsbId), "{wrong}");
        }
        for right in ["0403:6001", "0403:6001:a:b"] {
            assert_eq!(right.parse::<UsbId>().unwrap().to_string(), right);
        }
    }
}
