//! What gpsd says (its JSON protocol, <https://gpsd.io/gpsd_json.html>) to fixes. Pure.

use sandbar_reading::Timestamp;
use serde::Deserialize;

use super::fix::{Fix, Kind, round};

/// What is asked of gpsd when it is connected to.
pub(super) const WATCH: &str = "?WATCH={\"enable\":true,\"json\":true}\n";

/// Remembers how many satellites there are: gpsd says so apart.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    satellites: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "class")]
enum Report {
    #[serde(rename = "TPV")]
    Position(Position),
    #[serde(rename = "SKY")]
    Sky(Sky),
    #[serde(rename = "ERROR")]
    Error { message: String },
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Position {
    #[serde(default)]
    mode: u8,
    time: Option<String>,
    lat: Option<f64>,
    lon: Option<f64>,
    #[serde(rename = "altMSL")]
    alt_msl: Option<f64>,
    /// Before version 3.20, and deprecated since.
    alt: Option<f64>,
    speed: Option<f64>,
    track: Option<f64>,
    /// 95 %, horizontally.
    eph: Option<f64>,
    epx: Option<f64>,
    epy: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Sky {
    /// Since version 3.22.
    #[serde(rename = "uSat")]
    used: Option<u32>,
    satellites: Option<Vec<Satellite>>,
}

#[derive(Debug, Deserialize)]
struct Satellite {
    #[serde(default)]
    used: bool,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotRead {
    #[error("no report of gpsd's: {0}")]
    Malformed(String),
    #[error("gpsd: {0}")]
    Refused(String),
}

impl Reports {
    pub(super) fn line(&mut self, line: &[u8]) -> Result<Option<Fix>, NotRead> {
        match serde_json::from_slice(line).map_err(|error| NotRead::Malformed(error.to_string()))? {
            Report::Position(position) => Ok(Some(position.fix(self.satellites))),
            Report::Sky(sky) => {
                self.satellites = sky.count().or(self.satellites);
                Ok(None)
            }
            Report::Error { message } => Err(NotRead::Refused(message.chars().take(200).collect())),
            Report::Other => Ok(None),
        }
    }
}

impl Sky {
    fn count(&self) -> Option<u32> {
        let of_list = |satellites: &Vec<Satellite>| {
            u32::try_from(satellites.iter().filter(|satellite| satellite.used).count()).ok()
        };
        self.used.or_else(|| self.satellites.as_ref().and_then(of_list))
    }
}

impl Position {
    fn fix(self, satellites: Option<u32>) -> Fix {
        let fix = match self.mode {
            2 => Kind::Flat,
            3 => Kind::Full,
            _ => Kind::None,
        };
        let accuracy = self.eph.or_else(|| Some(self.epx?.hypot(self.epy?)));
        let rounded = |number: Option<f64>, places| number.and_then(|number| round(number, places));
        let fix = Fix {
            fix,
            cause: None,
            time: self.time.and_then(|time| time.parse::<Timestamp>().ok()),
            latitude_deg: rounded(self.lat, 9),
            longitude_deg: rounded(self.lon, 9),
            altitude_m: rounded(self.alt_msl.or(self.alt), 3).filter(|_| fix == Kind::Full),
            speed_m_s: rounded(self.speed, 3),
            course_deg: rounded(self.track, 3),
            accuracy_m: rounded(accuracy, 2),
            satellites,
        };
        fix.checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(reports: &mut Reports, line: &str) -> String {
        match reports.line(line.as_bytes()) {
            Ok(Some(fix)) => String::from_utf8(fix.json()).unwrap(),
            Ok(None) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn positions_come_with_the_satellites_said_before() {
        let mut reports = Reports::default();
        let mut line = |text: &str| line(&mut reports, text);
        assert_eq!(line(r#"{"class":"VERSION","release":"3.22","proto_major":3}"#), "");
        assert_eq!(
            line(r#"{"class":"SKY","nSat":3,"satellites":[{"PRN":1,"used":true},{"PRN":2,"used":false}]}"#),
            ""
        );
        assert_eq!(
            line(
                r#"{"class":"TPV","device":"/dev/pts/1","mode":3,"time":"2011-05-28T09:27:50.000Z","lat":53.36133667,"lon":-6.50562,"altHAE":116.9,"altMSL":61.7,"track":31.66,"speed":0.01,"epx":3.0,"epy":4.0}"#
            ),
            r#"{"fix":"3d","time":"2011-05-28T09:27:50.000000Z","latitude_deg":53.36133667,"longitude_deg":-6.50562,"altitude_m":61.7,"speed_m_s":0.01,"course_deg":31.66,"accuracy_m":5.0,"satellites":1}"#
        );
        assert_eq!(line(r#"{"class":"SKY","uSat":0}"#), "");
        assert_eq!(
            line(r#"{"class":"TPV","mode":1,"lat":53.36133667,"lon":-6.50562}"#),
            r#"{"fix":"none","cause":"the receiver has no fix","satellites":0}"#
        );
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let mut reports = Reports::default();
        let refused = line(&mut reports, r#"{"class":"ERROR","message":"Unrecognized request"}"#);
        assert_eq!(refused, "gpsd: Unrecognized request");
        for wrong in
            ["", "{", "[]", r#"{"mode":3}"#, r#"{"class":"TPV","mode":"3"}"#, r#"{"class":"TPV","mode":-1}"#]
        {
            assert!(line(&mut reports, wrong).starts_with("no report of gpsd's"), "{wrong}");
        }
    }
}
