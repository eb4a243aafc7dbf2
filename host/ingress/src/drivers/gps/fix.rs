//! What a receiver knows at one moment.

use sandbar_reading::Timestamp;
use serde::{Serialize, Serializer};

/// As it is written into a reading: with units in the names, and without what the receiver does not say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Fix {
    pub(super) fix: Kind,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<&'static str>,
    #[serde(serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub(super) time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latitude_deg: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) longitude_deg: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) altitude_m: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) speed_m_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) course_deg: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) accuracy_m: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) satellites: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) enum Kind {
    #[default]
    #[serde(rename = "none")]
    None,
    /// A position without a height.
    #[serde(rename = "2d")]
    Flat,
    #[serde(rename = "3d")]
    Full,
}

impl Fix {
    pub(super) fn none(cause: &'static str) -> Self {
        Self { cause: Some(cause), ..Self::default() }
    }

    pub(super) fn is_some(&self) -> bool {
        self.fix != Kind::None
    }

    /// Without one there is no position: an old one would be taken for a new one.
    pub(super) fn checked(self) -> Self {
        let position = self.latitude_deg.zip(self.longitude_deg);
        let is_there = position.is_some_and(|(latitude, longitude)| {
            (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude)
        });
        match self.is_some() && is_there {
            true => self,
            false => {
                Self { time: self.time, satellites: self.satellites, ..Self::none("the receiver has no fix") }
            }
        }
    }

    pub(super) fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("it has no map whose keys could be refused")
    }
}

fn as_text<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&time.unwrap_or_default())
}

/// To so many places after the point; nothing if it is no number.
pub(super) fn round(number: impl Into<f64>, places: i32) -> Option<f64> {
    let (number, factor) = (number.into(), 10_f64.powi(places));
    number.is_finite().then(|| (number * factor).round() / factor)
}

/// Metres along the surface of a ball with the earth's mean radius (haversine), which is exact enough to tell whether
/// something moved.
pub(super) fn distance_m(from: (f64, f64), to: (f64, f64)) -> f64 {
    const RADIUS_M: f64 = 6_371_008.8;
    let [from, to] = [from, to].map(|(latitude, longitude)| (latitude.to_radians(), longitude.to_radians()));
    let half = |angle: f64| (angle / 2.0).sin().powi(2);
    let chord = half(to.0 - from.0) + from.0.cos() * to.0.cos() * half(to.1 - from.1);
    2.0 * RADIUS_M * chord.sqrt().min(1.0).asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fix_without_a_position_is_none() {
        let fix = Fix { fix: Kind::Full, latitude_deg: Some(47.0), satellites: Some(3), ..Fix::default() };
        let text = |fix: Fix| String::from_utf8(fix.json()).unwrap();
        let none = r#"{"fix":"none","cause":"the receiver has no fix","satellites":3}"#;
        assert_eq!(text(fix.clone().checked()), none);
        let right = Fix { longitude_deg: Some(8.5), time: Some(Timestamp::from_millis(0)), ..fix };
        let beyond = Fix { longitude_deg: Some(181.0), time: None, ..right };
        assert_eq!(text(beyond.checked()), none);
        assert_eq!(
            text(right.checked()),
            r#"{"fix":"3d","time":"1970-01-01T00:00:00.000000Z","latitude_deg":47.0,"longitude_deg":8.5,"satellites":3}"#
        );
    }

    #[test]
    fn distances_are_about_right() {
        let (zurich, bern) = ((47.3769, 8.5417), (46.9480, 7.4474));
        assert_eq!((distance_m(zurich, bern) / 1000.0).round(), 95.0);
        assert_eq!(distance_m(zurich, zurich), 0.0);
        assert_eq!((distance_m((0.0, -180.0), (0.0, 180.0))).round(), 0.0);
    }
}
