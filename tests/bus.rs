//! A D-Bus of a test's own, in the place of the system's.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::tool;

/// `dbus-daemon`, on which everybody may do everything; killed when dropped.
pub struct Bus(Child);

impl Bus {
    /// With its socket there, and its settings beside that. Returns once it listens.
    pub fn start(socket: &Path) -> Result<Self> {
        let configuration = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n\
             <busconfig><type>system</type><listen>{}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>\
             <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
            address(socket)
        );
        let file = socket.with_extension("conf");
        std::fs::write(&file, configuration)?;
        let mut command = Command::new(tool::path("dbus-daemon"));
        command.arg("--config-file").arg(&file).args(["--nofork", "--nopidfile", "--print-address"]);
        let mut bus = Self(command.stdout(Stdio::piped()).spawn().context("starting dbus-daemon")?);
        let said = bus.0.stdout.take().context("no standard output")?;
        ensure!(BufReader::new(said).read_line(&mut String::new())? > 0, "dbus-daemon ended");
        Ok(bus)
    }
}

/// Of the bus with that socket, as D-Bus writes it.
pub fn address(socket: &Path) -> String {
    format!("unix:path={}", socket.display())
}

impl Drop for Bus {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
