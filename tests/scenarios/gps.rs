//! A receiver of satellite navigation on a serial line. No text goes through it: a marker is a place, so many steps to
//! the east.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::sync::Mutex;

use crate::line::Line;
use crate::protocol::{Client, Protocol, Told, marker};

struct Gps {
    port: PathBuf,
    line: Arc<Mutex<Line>>,
    place: Arc<AtomicU64>,
    thrown: AtomicU64,
}

/// Where it is, which it says again and again.
struct Receiver(Arc<AtomicU64>);

/// Degrees east of which the steps begin.
const EAST: u64 = 8;
/// In a degree; each is 7 m.
const STEPS: u64 = 10_000;

const PACE: Duration = Duration::from_millis(20);

fn sentence(body: &str) -> String {
    let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
    format!("${body}*{sum:02X}\r\n")
}

/// Each moment is another one, so that what was said of the one before is complete.
fn position(moment: u64, place: u64) -> String {
    let (hours, minutes) = (moment / 360_000 % 24, moment / 6000 % 60);
    let seconds = (moment % 6000) as f64 / 100.0;
    let (degrees, step) = (EAST + place / STEPS, place % STEPS);
    let east = step as f64 * 60.0 / STEPS as f64;
    sentence(&format!(
        "GPGGA,{hours:02}{minutes:02}{seconds:05.2},4700.0000,N,{degrees:03}{east:07.4},E,1,08,1.0,408.0,M,48.0,M,,"
    ))
}

async fn speak(line: Arc<Mutex<Line>>, place: Arc<AtomicU64>) {
    for moment in 0.. {
        let said = position(moment, place.load(Ordering::Relaxed));
        // What is said to nobody is said again.
        drop(line.lock().await.say(said.as_bytes()).await);
        tokio::time::sleep(PACE).await;
    }
}

/// With the checksums that it should have had: what went wrong is the receiver, not the line.
fn put_right(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split(|byte| *byte == b'\n').map(|line| {
        let body = line.strip_prefix(b"$").unwrap_or(line);
        let body = body.split(|byte| b"*\r".contains(byte)).next().unwrap_or_default();
        let sum = body.iter().fold(0, |sum, byte| sum ^ byte);
        [b"$", body, format!("*{sum:02X}\r\n").as_bytes()].concat()
    });
    lines.collect::<Vec<_>>().concat()
}

impl Protocol for Gps {
    const DRIVER: &'static str = "gps";
    const CONNECTIONS: usize = 1;
    type Client = Receiver;

    async fn start() -> Result<Self> {
        let (line, place) = (Line::new().await?, Arc::new(AtomicU64::new(0)));
        let (port, line) = (line.port(), Arc::new(Mutex::new(line)));
        tokio::spawn(speak(Arc::clone(&line), Arc::clone(&place)));
        Ok(Self { port, line, place, thrown: AtomicU64::new(0) })
    }

    fn settings(&self) -> String {
        format!("port = \"{}\"\ninterval_ms = 0\ndistance_m = 1\n", self.port.display())
    }

    async fn connect(&self, _address: &str) -> Result<Receiver> {
        Ok(Receiver(Arc::clone(&self.place)))
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        let moments: [&[&str]; 3] = [
            &[
                "GPGGA,092750.000,5321.6802,N,00630.3372,W,1,8,1.03,61.7,M,55.2,M,,",
                "GPGSA,A,3,10,07,05,02,29,04,08,13,,,,,1.72,1.03,1.38",
                "GPRMC,092750.000,A,5321.6802,N,00630.3372,W,0.02,31.66,280511,,,A",
                "GPGST,092750.000,24.9,24.9,14.7,118.0,3.0,4.0,32.5",
            ],
            &[
                "GNGNS,014035.00,4332.69262,S,17235.48549,E,RR,13,0.9,25.63,11.24,,",
                "GLGSV,2,1,08,10,63,137,17,07,61,098,15,05,59,290,20,02,54,157,30",
                "GNVTG,054.7,T,034.4,M,005.5,N,010.2,K,A",
            ],
            &[
                "GPGGA,092751.000,,,,,0,00,99.9,,M,,M,,",
                "GPGSA,A,1,,,,,,,,,,,,,99.9,99.9,99.9",
                "GPRMC,092751.000,V,,,,,,,280511,,,N",
            ],
        ];
        moments.map(|bodies| bodies.iter().map(|body| sentence(body)).collect::<String>().into_bytes()).into()
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        vec![
            vec![b'x'; 200_000],
            vec![b'\n'; 10_000],
            b"$GPGGA,\xff\xfe\xc3\x28*00\r\n".to_vec(),
            b"$GPGGA,092750.000,9999.9999,N,99999.9999,E,1,8,1e99,1e99,M,-1e99,M,,*00\r\n".to_vec(),
            b"$PUBX,00,081350.00,4717.113210,N,00833.915187,E,546.589,G3*00\r\n".to_vec(),
            b"!AIVDM,1,1,,B,177KQJ5000G?tO`K>RA1wUbN0TKH,0*5C\r\n".to_vec(),
            b"\xb5\x62\x01\x07\x5c\0".repeat(200),
        ]
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        &[b"$", b",", b"*", b"\r\n", b"$GPGGA,", b",,,,,,,,", b"\xff", b"\0", b"-", b"1e99", b"nan"]
    }

    async fn throw(&self, _address: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let bytes = match self.thrown.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => put_right(&bytes),
            _ => [&bytes[..], b"\r\n"].concat(),
        };
        let mut line = self.line.lock().await;
        line.say(&bytes).await?;
        line.said()
    }

    async fn lose(&self, _address: &str, half: Vec<u8>) -> Result<()> {
        self.line.lock().await.lose(&half).await
    }

    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        ensure!(answer.is_empty(), "nothing is answered");
        Ok(())
    }

    fn markers(reading: &str) -> Vec<String> {
        let place = |(at, name): (usize, &str)| {
            let degrees = reading[at + name.len()..].split([',', '}']).next()?.parse::<f64>().ok()?;
            Some(marker(((degrees - EAST as f64) * STEPS as f64).round() as u64))
        };
        reading.match_indices("\"longitude_deg\":").filter_map(place).collect()
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        let whole = position(0, place_of(marker).ok()?);
        Some(whole[..whole.len() - 5].into())
    }
}

fn place_of(marker: &str) -> Result<u64> {
    Ok(marker.trim_start_matches("marker-").parse()?)
}

impl Client for Receiver {
    async fn send(&mut self, text: &str) -> Result<Told> {
        self.0.store(place_of(text).context("no marker")?, Ordering::Relaxed);
        Ok(Told::Nothing)
    }
}

crate::scenarios!(Gps);
