//! BlueZ's D-Bus without a radio: python3-dbusmock on a bus of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbar_tests::bus::{self, Bus};
use sandbar_tests::host::{Host, binary};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Debian's, which has its D-Bus.
const PYTHON: &str = "/usr/bin/python3";

pub(crate) struct Bluez {
    folder: PathBuf,
    _bus: Bus,
    /// In the place of bluetoothd.
    mock: Option<Child>,
    orders: Option<Orders>,
}

struct Orders {
    _child: Child,
    say: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Bluez {
    /// With an adapter `hci0`. Its socket is in the folder.
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        let bus = Bus::start(&folder.join("bus"))?;
        let mut bluez = Self { folder: folder.to_owned(), _bus: bus, mock: None, orders: None };
        bluez.start_bluetoothd().await?;
        Ok(bluez)
    }

    fn address(&self) -> String {
        bus::address(&self.folder.join("bus"))
    }

    fn python(&self) -> Command {
        let mut command = Command::new(PYTHON);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", self.address()).kill_on_drop(true);
        command
    }

    pub(crate) async fn start_bluetoothd(&mut self) -> Result<()> {
        let mut command = self.python();
        command.args(["-m", "dbusmock", "--system", "--template", "bluez5"]);
        let log = std::fs::File::create(self.folder.join("mock.log"))?;
        self.mock = Some(command.stdout(log.try_clone()?).stderr(log).spawn().context("starting dbusmock")?);
        let mut command = self.python();
        command.arg(sandbar_tests::checkout().join("tests/radio/bluez.py"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let say = child.stdin.take().context("no stdin")?;
        let answers = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        self.orders = Some(Orders { _child: child, say, answers });
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while let Err(problem) = self.order("adapter hci0").await {
            ensure!(tokio::time::Instant::now() < deadline, "dbusmock does not come up: {problem}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// `kill -9`.
    pub(crate) async fn kill_bluetoothd(&mut self) -> Result<()> {
        self.orders = None;
        if let Some(mut mock) = self.mock.take() {
            mock.kill().await?;
        }
        Ok(())
    }

    /// See `bluez.py`.
    pub(crate) async fn order(&mut self, order: &str) -> Result<()> {
        let orders = self.orders.as_mut().context("there is no bluetoothd")?;
        orders.say.write_all(format!("{order}\n").as_bytes()).await?;
        let answer = tokio::time::timeout(Duration::from_secs(20), orders.answers.next_line()).await;
        let answer = answer.context("no answer in time")??.context("bluez.py ended")?;
        ensure!(answer == "ok", "{order}: {answer}");
        Ok(())
    }

    /// An iBeacon is heard.
    pub(crate) async fn beacon(&mut self, address: &str, rssi: i16, major: u16, minor: u16) -> Result<()> {
        self.order(&format!("company {address} {rssi} 76 {}", beacon(UUID, major, minor))).await
    }

    /// A host that hears with this.
    pub(crate) async fn host(&self, folder: &Path, configuration: &str) -> Result<Host> {
        let text = format!("[api]\nlisten = \"127.0.0.1:0\"\n{configuration}");
        std::fs::write(folder.join("sandbar.toml"), text)?;
        self.host_again(folder).await
    }

    /// With the configuration that is there.
    pub(crate) async fn host_again(&self, folder: &Path) -> Result<Host> {
        let mut command = std::process::Command::new(binary());
        command.env("DBUS_SYSTEM_BUS_ADDRESS", self.address());
        Host::start_with(folder, command).await
    }
}

pub(crate) const UUID: &str = "f7826da64fa24e988024bc5b71e0893e";

/// Its data, in hexadecimal.
pub(crate) fn beacon(uuid: &str, major: u16, minor: u16) -> String {
    format!("0215{uuid}{major:04x}{minor:04x}c5")
}
