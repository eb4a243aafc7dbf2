//! Tells when a device enters or leaves an area. What it does is told in README.md.

use sandbar_guest::prelude::*;
use sandbar_guest::serde_json::json;

/// Whether the device is inside: of this key, by default of this device.
static INSIDE: StateCell<bool> = StateCell::new("inside");

/// Degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    latitude: f64,
    longitude: f64,
}

enum Fence {
    Circle { centre: Point, metres: f64 },
    Polygon(Vec<Point>),
}

struct Geofence {
    name: String,
    fence: Fence,
    latitude: String,
    longitude: String,
}

impl Handler for Geofence {
    fn configure() -> Result<Self, String> {
        let text = config::required::<String>("fence")?;
        Ok(Self {
            name: config::get("name").unwrap_or_else(|| "fence".to_owned()),
            fence: Fence::parse(&text).ok_or_else(|| {
                format!("setting `fence` is {text:?}: it must be `latitude,longitude,metres`, or at least three `latitude,longitude` with `;` between")
            })?,
            latitude: config::get("latitude").unwrap_or_else(|| "lat".to_owned()),
            longitude: config::get("longitude").unwrap_or_else(|| "lon".to_owned()),
        })
    }

    fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
        let position: Object = reading.json()?;
        let (latitude, longitude) = (position.number(&self.latitude)?, position.number(&self.longitude)?);
        if latitude.abs() > 90.0 || longitude.abs() > 180.0 {
            return Err(Failure::reject(format!("{latitude}, {longitude} is nowhere on Earth")));
        }
        let inside = self.fence.contains(Point { latitude, longitude });
        // The first position tells nothing: nobody has come or gone.
        let was_inside = INSIDE.get()?.unwrap_or(inside);
        INSIDE.set(&inside)?;
        let event = match (was_inside, inside) {
            (false, true) => "entered",
            (true, false) => "left",
            _ => return Ok(vec![]),
        };
        let told = json!({ "event": event, "fence": self.name, "lat": latitude, "lon": longitude });
        Ok(vec![Message::json(format!("geofence/{}/{}", self.name, reading.subject()), &told)?.into()])
    }
}

impl Fence {
    fn parse(text: &str) -> Option<Self> {
        let numbers = |part: &str| {
            part.split(',').map(|number| number.trim().parse().ok()).collect::<Option<Vec<f64>>>()
        };
        let parts = text.split(';').map(numbers).collect::<Option<Vec<_>>>()?;
        if let [part] = &parts[..] {
            let &[latitude, longitude, metres] = &part[..] else { return None };
            return (metres > 0.0).then_some(Self::Circle { centre: Point { latitude, longitude }, metres });
        }
        let point = |part: &Vec<f64>| match part[..] {
            [latitude, longitude] => Some(Point { latitude, longitude }),
            _ => None,
        };
        let corners = parts.iter().map(point).collect::<Option<Vec<_>>>()?;
        (corners.len() >= 3).then_some(Self::Polygon(corners))
    }

    fn contains(&self, point: Point) -> bool {
        match self {
            Self::Circle { centre, metres } => distance(*centre, point) <= *metres,
            Self::Polygon(corners) => {
                // Crossings of a line to the east of the point; odd, if it is inside.
                let next = corners.iter().cycle().skip(1);
                let crossed = corners.iter().zip(next).filter(|(a, b)| {
                    (a.latitude > point.latitude) != (b.latitude > point.latitude) && {
                        let share = (point.latitude - a.latitude) / (b.latitude - a.latitude);
                        point.longitude < a.longitude + share * (b.longitude - a.longitude)
                    }
                });
                crossed.count() % 2 == 1
            }
        }
    }
}

/// Metres along a great circle (haversine).
fn distance(a: Point, b: Point) -> f64 {
    const EARTH_RADIUS: f64 = 6_371_008.8;
    let (from, to) = (a.latitude.to_radians(), b.latitude.to_radians());
    let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
    let h = half(b.latitude - a.latitude) + from.cos() * to.cos() * half(b.longitude - a.longitude);
    2.0 * EARTH_RADIUS * h.sqrt().min(1.0).asin()
}

sandbar_guest::handler!(Geofence);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_are_circles_or_polygons() {
        let circle = Fence::parse("48.2, 16.36, 150").unwrap();
        assert!(circle.contains(Point { latitude: 48.201, longitude: 16.36 }), "111 m north");
        assert!(!circle.contains(Point { latitude: 48.202, longitude: 16.36 }), "222 m north");
        let triangle = Fence::parse("0,0;0,10;10,0").unwrap();
        assert!(triangle.contains(Point { latitude: 4.0, longitude: 4.0 }));
        assert!(!triangle.contains(Point { latitude: 6.0, longitude: 6.0 }));
        for text in ["", "48.2,16.36", "48.2,16.36,0", "0,0;1,1", "0,0;1,1;x,2"] {
            assert!(Fence::parse(text).is_none(), "{text}");
        }
    }
}
