//! Far ends of drivers that open a serial port: a pseudo terminal, and who speaks at its other end.

use std::any::Any;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use sandbar_tests::tool;

use super::PAYLOAD;

/// Two pseudo terminals that are one line, until it is dropped.
struct Line(Child);

impl Drop for Line {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

/// The end that the driver opens.
pub(super) fn port(folder: &Path) -> PathBuf {
    folder.join("host")
}

/// `speak` is called with the other end, in a thread of its own, and ends when the line is dropped.
fn line(
    folder: &Path,
    speak: impl FnOnce(File) -> std::io::Result<()> + Send + 'static,
) -> Result<Box<dyn Any + Send>> {
    let end = |name: &str| format!("pty,raw,echo=0,link={}", folder.join(name).display());
    let mut socat = Command::new(tool::path("socat"));
    let line = Line(socat.args([end("host"), end("device")]).stderr(Stdio::null()).spawn()?);
    let device = folder.join("device");
    let opened = (0..500).find_map(|_| {
        let file = File::options().read(true).write(true).open(&device).ok();
        if file.is_none() || !port(folder).exists() {
            std::thread::yield_now();
            drop(Command::new("sleep").arg("0.01").status());
        }
        file.filter(|_| port(folder).exists())
    });
    let file = opened.context("socat makes no terminals")?;
    std::thread::spawn(move || speak(file));
    Ok(Box::new(line))
}

/// A BraveJIG router: it is started, and then says how light it is, as fast as the line takes it.
pub(super) fn bravejig(folder: &Path) -> Result<Box<dyn Any + Send>> {
    line(folder, |mut line| {
        let mut request = [0; 11];
        line.read_exact(&mut request)?;
        let answer = [&[1, 2, 0, 0, 0, 0x6a, 1][..], &[7; 8], &[0]].concat();
        line.write_all(&answer)?;
        let device = 0x2468_0024_0123_4567u64.to_le_bytes();
        let head = [&[1, 0, 12, 0, 0, 0, 0, 0x6a][..], &device, &[0x21, 1, 0xc4, 7, 0]].concat();
        let data = [&[90, 1, 0, 0, 0, 0x6a, 1, 0][..], &21.5f32.to_le_bytes()].concat();
        let frames = [head, data].concat().repeat(30);
        loop {
            line.write_all(&frames)?;
        }
    })
}

/// A device that says a line once the one before it is acknowledged.
pub(super) fn serial(folder: &Path) -> Result<Box<dyn Any + Send>> {
    line(folder, |mut line| {
        let said = format!("{PAYLOAD}\n");
        loop {
            line.write_all(said.as_bytes())?;
            line.read_exact(&mut [0])?;
        }
    })
}

/// A receiver that says where it was in each hundredth of a second, as fast as the line takes it.
pub(super) fn gps(folder: &Path) -> Result<Box<dyn Any + Send>> {
    line(folder, |mut line| {
        for moment in 0u32.. {
            let (hours, minutes, rest) = (moment / 360_000 % 24, moment / 6000 % 60, moment % 6000);
            let time = format!("{hours:02}{minutes:02}{:02}.{:02}", rest / 100, rest % 100);
            let body = format!("GPRMC,{time},A,4722.6140,N,00832.5020,E,2.72,31.66,010126,,,A");
            let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
            line.write_all(format!("${body}*{sum:02X}\r\n").as_bytes())?;
        }
        Ok(())
    })
}
