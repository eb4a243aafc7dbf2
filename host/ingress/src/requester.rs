//! Which device an HTTP request is of, by its head. Pure.

use std::net::SocketAddr;

use http::request::Parts;
use http::{HeaderName, HeaderValue, header};
use sandbar_reading::ConfigError;

use crate::pattern::{Template, Values, percent_decode};

/// By a header, else by a parameter of the query, else by the path or the peer's address.
#[derive(Debug)]
pub(crate) struct Requester {
    header: Option<HeaderName>,
    query: Option<Box<str>>,
    /// Of the path's values, the address and the certificate.
    device: Option<Template>,
}

/// Its name has no byte, or too many.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadDevice;

const DEVICE_MAX: usize = 255;

impl Requester {
    /// `names` are the path's; `certificates` says whether peers show some. Errors name the settings `device` and
    /// `device_header`.
    pub(crate) fn new(
        device: Option<&str>,
        header: Option<&str>,
        query: Option<&str>,
        names: &[Box<str>],
        certificates: bool,
    ) -> Result<Self, ConfigError> {
        let of_path = names.iter().any(|name| **name == *"device").then_some("{device}");
        let of_peer = ["ip", "certificate"].into_iter().filter(|name| certificates || *name != "certificate");
        let names: Vec<Box<str>> = names.iter().cloned().chain(of_peer.map(Into::into)).collect();
        let template = |text: &str| {
            Template::parse(text, &names).map_err(|error| ConfigError::at("device", error.to_string()))
        };
        let name = |name: &str| {
            let at = |problem: &str| ConfigError::at("device_header", problem);
            let name: HeaderName = name.parse().map_err(|_| at("is not a header's name"))?;
            match name == header::AUTHORIZATION {
                true => Err(at("would write secrets into the journal")),
                false => Ok(name),
            }
        };
        Ok(Self {
            device: device.or(of_path).map(template).transpose()?,
            header: header.map(name).transpose()?,
            query: query.map(Into::into),
        })
    }

    /// `values` are the path's; `peer` is an address with its port, `certificate` a common name.
    pub(crate) fn device(
        &self,
        parts: &Parts,
        values: &Values<'_>,
        peer: &str,
        certificate: Option<&str>,
    ) -> Result<Option<Box<str>>, BadDevice> {
        let header = self.header.as_ref().and_then(|name| parts.headers.get(name)).map(text);
        let of_query = || self.query.as_deref().and_then(|name| query(parts, name)).map(Into::into);
        let of_path = || {
            let template = self.device.as_ref()?;
            let peer = peer.parse().map(|peer: SocketAddr| peer.ip().to_canonical().to_string());
            let mut values = values.clone();
            values.extend([peer.unwrap_or_default().into(), certificate.unwrap_or_default().into()]);
            Some(template.fill(&values).into())
        };
        let device: Option<Box<str>> = header.or_else(of_query).or_else(of_path);
        match device {
            Some(device) if !(1..=DEVICE_MAX).contains(&device.len()) => Err(BadDevice),
            device => Ok(device),
        }
    }
}

/// The first value of a query's parameter.
pub(crate) fn query(parts: &Parts, name: &str) -> Option<String> {
    parts.uri.query()?.split('&').find_map(|pair| {
        let (parameter, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode(parameter, true)? == name).then(|| percent_decode(value, true))?
    })
}

/// Headers may hold any bytes (RFC 9110, section 5.5); those that are not UTF-8 are replaced.
pub(crate) fn text(value: &HeaderValue) -> Box<str> {
    String::from_utf8_lossy(value.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_goes_before_the_query_and_that_before_path_and_address() {
        let name = |device: Option<&str>, uri: &str, header: Option<&str>| {
            let names = ["device".into()];
            let by = Requester::new(device, Some("X-Device"), Some("dev"), &names, true).unwrap();
            let mut request = http::Request::get(uri);
            if let Some(value) = header {
                request = request.header("x-device", value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            by.device(&parts, &vec!["d".into()], "[::ffff:10.0.0.7]:4001", Some("press"))
        };
        assert_eq!(name(None, "/", None), Ok(Some("d".into())));
        assert_eq!(name(Some("at {ip}"), "/", None), Ok(Some("at 10.0.0.7".into())));
        assert_eq!(name(Some("{certificate}"), "/", None), Ok(Some("press".into())));
        assert_eq!(name(None, "/?dev=a%20b", None), Ok(Some("a b".into())));
        assert_eq!(name(None, "/?dev=a", Some("h")), Ok(Some("h".into())));
        assert_eq!(name(None, "/?dev=a", Some("")), Err(BadDevice));
        assert_eq!(name(None, "/", Some(&"x".repeat(256))), Err(BadDevice));
        let unnamed = Requester::new(None, None, None, &[], false).unwrap();
        let (parts, ()) = http::Request::get("/").body(()).unwrap().into_parts();
        assert_eq!(unnamed.device(&parts, &Vec::new(), "127.0.0.1:9", None), Ok(None));
    }

    #[test]
    fn names_the_setting_that_cannot_work() {
        let setting = |device, header| Requester::new(device, header, None, &[], false).unwrap_err().setting;
        assert_eq!(setting(Some("{certificate}"), None), "device");
        assert_eq!(setting(Some("{other}"), None), "device");
        assert_eq!(setting(None, Some("a b")), "device_header");
        assert_eq!(setting(None, Some("authorization")), "device_header");
    }
}
