//! Sentences of NMEA 0183 to fixes. Pure.

use nmea::sentences::rmc::RmcStatusOfFix;
use nmea::sentences::{FixType, GgaData, GnsData, GsaData, GstData, RmcData};
use nmea::{ParseResult, parse_str};
use sandbar_reading::Timestamp;

use super::fix::{Fix, Kind, round};

/// A receiver says what it knows of one moment in several sentences: they are gathered.
#[derive(Debug, Default)]
pub(crate) struct Sentences {
    moment: Moment,
}

#[derive(Debug, Default)]
struct Moment {
    /// Seconds of the day, as the sentences have it; those of one moment are the same.
    second: Option<f64>,
    /// Whether a sentence said that there is a fix, or that there is none.
    is_valid: Option<bool>,
    /// Dimensions, as GSA has them: 1 for no fix.
    dimensions: Option<u8>,
    hdop: Option<f32>,
    fix: Fix,
}

/// What is no sentence, or not one of a receiver's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotRead {
    #[error("a sentence whose checksum is wrong")]
    Checksum,
    #[error("no sentence of NMEA 0183: {0}")]
    Malformed(String),
}

/// A receiver that does not say how exact it is: metres for a horizontal dilution of precision of 1.
const METRES_PER_HDOP: f64 = 5.0;

const KNOT_M_S: f64 = 1852.0 / 3600.0;

impl Sentences {
    /// The fix of the moment before, once a sentence tells of another one.
    pub(super) fn line(&mut self, line: &str) -> Result<Option<Fix>, NotRead> {
        let line = line.trim();
        let said = parse_str(line).map_err(|error| match error {
            nmea::Error::ChecksumMismatch { .. } => NotRead::Checksum,
            error => NotRead::Malformed(error.to_string().chars().take(80).collect()),
        })?;
        let is_of_moment = matches!(
            said,
            ParseResult::GGA(_) | ParseResult::RMC(_) | ParseResult::GNS(_) | ParseResult::GST(_)
        );
        let second: Option<f64> = line.split(',').nth(1).and_then(|text| text.parse().ok());
        let mut before = None;
        if is_of_moment && second != self.moment.second {
            before = self.rest();
            self.moment.second = second;
        }
        match said {
            ParseResult::GGA(said) => self.moment.gga(&said),
            ParseResult::RMC(said) => self.moment.rmc(&said),
            ParseResult::GNS(said) => self.moment.gns(&said),
            ParseResult::GSA(said) => self.moment.gsa(&said),
            ParseResult::GST(said) => self.moment.gst(&said),
            _ => {}
        }
        Ok(before)
    }

    /// What is known by now of the moment: after a silence, nothing more comes of it.
    pub(super) fn rest(&mut self) -> Option<Fix> {
        std::mem::take(&mut self.moment).fix()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.moment.is_valid.is_none()
    }
}

impl Moment {
    fn fix(self) -> Option<Fix> {
        let is_valid = self.is_valid? && self.dimensions != Some(1);
        let fix = match (is_valid, self.dimensions) {
            (false, _) => Kind::None,
            (true, Some(2)) => Kind::Flat,
            (true, Some(_)) => Kind::Full,
            (true, None) if self.fix.altitude_m.is_some() => Kind::Full,
            (true, None) => Kind::Flat,
        };
        let mut fix = Fix { fix, ..self.fix };
        fix.accuracy_m = fix.accuracy_m.or_else(|| round(f64::from(self.hdop?) * METRES_PER_HDOP, 1));
        if fix.fix == Kind::Flat {
            fix.altitude_m = None;
        }
        Some(fix.checked())
    }

    fn says(&mut self, is_valid: bool) {
        self.is_valid = Some(is_valid && self.is_valid != Some(false));
    }

    fn is_at(&mut self, latitude: Option<f64>, longitude: Option<f64>) {
        if let (Some(latitude), Some(longitude)) = (latitude, longitude) {
            self.fix.latitude_deg = round(latitude, 8);
            self.fix.longitude_deg = round(longitude, 8);
        }
    }

    fn gga(&mut self, said: &GgaData) {
        self.says(said.fix_type.is_some_and(FixType::is_valid));
        self.is_at(said.latitude, said.longitude);
        self.fix.altitude_m = said.altitude.and_then(|altitude| round(altitude, 2));
        self.fix.satellites = said.fix_satellites;
        self.hdop = said.hdop.or(self.hdop);
    }

    fn rmc(&mut self, said: &RmcData) {
        self.says(said.status_of_fix != RmcStatusOfFix::Invalid);
        self.is_at(said.lat, said.lon);
        self.fix.speed_m_s = said.speed_over_ground.and_then(|knots| round(f64::from(knots) * KNOT_M_S, 3));
        self.fix.course_deg = said.true_course.and_then(|course| round(course, 2));
        let moment = said.fix_date.zip(said.fix_time).map(|(date, time)| date.and_time(time).and_utc());
        let millis = moment.and_then(|moment| u64::try_from(moment.timestamp_millis()).ok());
        self.fix.time = millis.map(Timestamp::from_millis);
    }

    fn gns(&mut self, said: &GnsData) {
        self.says(said.lat.is_some() && said.nsattelites > 0);
        self.is_at(said.lat, said.lon);
        self.fix.altitude_m = said.alt.and_then(|altitude| round(altitude, 2));
        self.fix.satellites = Some(said.nsattelites.into());
        self.hdop = said.hdop.or(self.hdop);
    }

    /// One comes for each system of satellites; the best counts.
    fn gsa(&mut self, said: &GsaData) {
        use nmea::sentences::gsa::GsaMode2;
        let dimensions = match said.mode2 {
            GsaMode2::NoFix => 1,
            GsaMode2::Fix2D => 2,
            GsaMode2::Fix3D => 3,
        };
        self.dimensions = self.dimensions.max(Some(dimensions));
        self.hdop = said.hdop.or(self.hdop);
    }

    fn gst(&mut self, said: &GstData) {
        let both = said.lat_sd.zip(said.long_sd);
        self.fix.accuracy_m =
            both.and_then(|(north, east)| round(f64::from(north).hypot(f64::from(east)), 2));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// With its checksum.
    pub(crate) fn sentence(body: &str) -> String {
        let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
        format!("${body}*{sum:02X}")
    }

    fn check(bodies: &[&str], expected: &Expect) {
        let mut sentences = Sentences::default();
        let mut found = Vec::new();
        for body in bodies {
            found.extend(sentences.line(&sentence(body)).unwrap());
        }
        found.extend(sentences.rest());
        let lines: Vec<_> = found.iter().map(|fix| String::from_utf8(fix.json()).unwrap()).collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn sentences_of_one_moment_are_one_fix() {
        check(
            &[
                "GPGGA,092750.000,5321.6802,N,00630.3372,W,1,8,1.03,61.7,M,55.2,M,,",
                "GPGSA,A,3,10,07,05,02,29,04,08,13,,,,,1.72,1.03,1.38",
                "GPRMC,092750.000,A,5321.6802,N,00630.3372,W,0.02,31.66,280511,,,A",
                "GPGGA,092751.000,5321.6802,N,00630.3371,W,1,8,1.03,61.7,M,55.3,M,,",
                "GPRMC,092751.000,A,5321.6802,N,00630.3371,W,12.00,31.66,280511,,,A",
                "GPGST,092751.000,24.9,24.9,14.7,118.0,3.0,4.0,32.5",
            ],
            &expect![[r#"
                {"fix":"3d","time":"2011-05-28T09:27:50.000000Z","latitude_deg":53.36133667,"longitude_deg":-6.50562,"altitude_m":61.7,"speed_m_s":0.01,"course_deg":31.66,"accuracy_m":5.1,"satellites":8}
                {"fix":"3d","time":"2011-05-28T09:27:51.000000Z","latitude_deg":53.36133667,"longitude_deg":-6.50561833,"altitude_m":61.7,"speed_m_s":6.173,"course_deg":31.66,"accuracy_m":5.0,"satellites":8}"#]],
        );
    }

    #[test]
    fn without_a_fix_there_is_no_position() {
        check(
            &[
                "GPGGA,092750.000,5321.6802,N,00630.3372,W,0,2,,,M,,M,,",
                "GPRMC,092750.000,V,5321.6802,N,00630.3372,W,,,280511,,,N",
                "GPRMC,092751.000,A,5321.6802,N,00630.3372,W,,,280511,,,A",
                "GPGSA,A,1,,,,,,,,,,,,,,,",
                "GPRMC,092752.000,A,5321.6802,N,00630.3372,W,,,280511,,,A",
            ],
            &expect![[r#"
                {"fix":"none","cause":"the receiver has no fix","time":"2011-05-28T09:27:50.000000Z","satellites":2}
                {"fix":"none","cause":"the receiver has no fix","time":"2011-05-28T09:27:51.000000Z"}
                {"fix":"2d","time":"2011-05-28T09:27:52.000000Z","latitude_deg":53.36133667,"longitude_deg":-6.50562}"#]],
        );
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let mut sentences = Sentences::default();
        let right = sentence("GPRMC,092751.000,A,5321.6802,N,00630.3372,W,,,280511,,,A");
        assert_eq!(sentences.line(&right.replace("5321", "5322")), Err(NotRead::Checksum));
        for wrong in ["", "$", "$GPRMC", "hello", "$GPRMC,,,,,*00\u{e9}", &right[..20]] {
            assert!(sentences.line(wrong).is_err(), "{wrong}");
        }
        assert!(sentences.rest().is_none());
    }
}
