//! What a route permits its handler to ask of others over HTTP. Pure.

use std::net::IpAddr;

use http::uri::Scheme;
use http::{Method, Uri};
use sandbar_reading::ConfigError;

use super::range::{AddressRange, is_public};

/// Requests that a handler may make: to one host, or all below a domain, under a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpPermission {
    scheme: Scheme,
    host: Host,
    port: u16,
    /// `/` or `/a/b`, without a slash at its end.
    path: String,
    /// All, if there are none.
    methods: Vec<Method>,
    /// Addresses that are not the world's and may be reached nevertheless.
    addresses: Vec<AddressRange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// Lower case, an IPv6 address without brackets.
    One(String),
    /// `.example.com`: every name that ends so.
    Below(String),
}

impl HttpPermission {
    /// `url`: `https://api.example.com/v1`, `http://192.168.1.7:8080/`, `https://*.example.com/`. The path is
    /// that itself and what is below it. `addresses`: loopback, link-local and private addresses that the
    /// host's name may stand for; an address in `url` names itself.
    pub fn parse(url: &str, methods: &[String], addresses: &[String]) -> Result<Self, ConfigError> {
        let wrong =
            |problem: &str| ConfigError::at("url", format!("{problem}, such as https://api.example.com/v1"));
        let uri: Uri = url.parse().map_err(|_| wrong("must be an address"))?;
        let scheme = uri.scheme().ok_or_else(|| wrong("must begin with https:// or http://"))?.clone();
        let usual = usual_port(&scheme).ok_or_else(|| wrong("must begin with https:// or http://"))?;
        let authority = uri.authority().ok_or_else(|| wrong("must name a host"))?;
        if authority.as_str().contains('@') || uri.query().is_some() || url.contains('#') {
            return Err(wrong("must have neither a user nor a query nor a fragment"));
        }
        let path = segments(uri.path()).ok_or_else(|| wrong("must have a plain path"))?;
        let name = bare(authority.host());
        let host = match name.strip_prefix('*') {
            Some(domain) if domain.starts_with('.') && domain.len() > 1 => Host::Below(domain.to_owned()),
            Some(_) => return Err(wrong("`*` must be the whole first part of a name: *.example.com")),
            None if name.is_empty() || name.contains('*') => {
                return Err(wrong("must name a host, or *.example.com"));
            }
            None => Host::One(name),
        };
        let method = |(index, text): (usize, &String)| match Method::from_bytes(text.as_bytes()) {
            Ok(method) if *text == text.to_uppercase() => Ok(method),
            _ => Err(ConfigError::at(
                format!("methods[{index}]"),
                format!("`{text}` is not a method, such as GET"),
            )),
        };
        let range = |(index, text): (usize, &String)| {
            text.parse::<AddressRange>()
                .map_err(|error| ConfigError::at(format!("addresses[{index}]"), error.to_string()))
        };
        let mut addresses = addresses.iter().enumerate().map(range).collect::<Result<Vec<_>, _>>()?;
        if let Host::One(host) = &host
            && let Ok(address) = host.parse::<IpAddr>()
        {
            addresses.push(AddressRange::of(address));
        }
        Ok(Self {
            port: authority.port_u16().unwrap_or(usual),
            path: format!("/{}", path.join("/")),
            methods: methods.iter().enumerate().map(method).collect::<Result<_, _>>()?,
            scheme,
            host,
            addresses,
        })
    }

    /// Whether it covers the request; which addresses are reached is decided later.
    pub(crate) fn covers(&self, method: &Method, uri: &Uri) -> bool {
        let Some((scheme, authority)) = uri.scheme().zip(uri.authority()) else { return false };
        let Some(path) = segments(uri.path()) else { return false };
        let host = bare(authority.host());
        let known = match &self.host {
            Host::One(name) => *name == host,
            Host::Below(domain) => host.len() > domain.len() && host.ends_with(domain.as_str()),
        };
        let prefix = segments(&self.path).unwrap_or_default();
        known
            && *scheme == self.scheme
            && authority.port_u16().or_else(|| usual_port(scheme)) == Some(self.port)
            && (self.methods.is_empty() || self.methods.contains(method))
            && path.starts_with(&prefix)
    }

    pub(crate) fn reaches(&self, address: IpAddr) -> bool {
        is_public(address) || self.addresses.iter().any(|range| range.contains(address))
    }
}

pub(crate) fn usual_port(scheme: &Scheme) -> Option<u16> {
    match scheme.as_str() {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    }
}

/// As it is compared and looked up: without brackets, a dot at its end, and capitals.
pub(crate) fn bare(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// The parts of a path; `None` for one that a server may read as another one: with `..`, `\`, or an escape of
/// any of what makes a path.
fn segments(path: &str) -> Option<Vec<&str>> {
    let lower = path.to_ascii_lowercase();
    if ["%2e", "%2f", "%5c", "%25", "%00", "\\"].iter().any(|tricky| lower.contains(tricky)) {
        return None;
    }
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let tricky = |part: &&str| matches!(part.split(';').next(), Some("." | ".."));
    (!parts.iter().any(tricky) && !path.contains("//")).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(url: &str, methods: &[&str], request: &str) -> bool {
        let methods: Vec<_> = methods.iter().map(ToString::to_string).collect();
        let (method, uri) = request.split_once(' ').unwrap();
        let permission = HttpPermission::parse(url, &methods, &[]).unwrap();
        permission.covers(&method.parse().unwrap(), &uri.parse().unwrap())
    }

    #[test]
    fn method_host_and_path_must_agree() {
        let api = "https://api.example.com/v1/";
        for (request, expected) in [
            ("GET https://api.example.com/v1", true),
            ("GET https://API.Example.com.:443/v1/a/b?q=1", true),
            ("GET http://api.example.com/v1/a", false),
            ("GET https://api.example.com:8443/v1/a", false),
            ("GET https://api.example.com/v10", false),
            ("GET https://api.example.com/", false),
            ("GET https://example.com/v1/a", false),
            ("GET https://api.example.com/v1/../admin", false),
            ("GET https://api.example.com/v1/%2e%2e/admin", false),
            ("GET https://api.example.com/v1/..;/admin", false),
            ("GET https://api.example.com/v1/%252e%252e/admin", false),
            ("GET https://api.example.com//v1/a", false),
            ("GET https://api.example.com@evil.example/v1/a", false),
            ("POST https://api.example.com/v1/a", true),
        ] {
            assert_eq!(covers(api, &[], request), expected, "{request}");
        }
        assert!(!covers(api, &["GET"], "POST https://api.example.com/v1/a"));
        assert!(covers("https://*.example.com/", &[], "GET https://a.b.example.com/x"));
        assert!(!covers("https://*.example.com/", &[], "GET https://example.com/x"));
        assert!(!covers("https://*.example.com/", &[], "GET https://notexample.com/x"));
        assert!(covers("http://[::1]:8080/", &[], "GET http://[::1]:8080/x"));
    }

    #[test]
    fn only_named_addresses_are_reached_beside_the_worlds() {
        let reaches = |url: &str, addresses: &[&str], address: &str| {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            HttpPermission::parse(url, &[], &addresses).unwrap().reaches(address.parse().unwrap())
        };
        assert!(reaches("http://a.example/", &[], "1.1.1.1"));
        assert!(!reaches("http://a.example/", &[], "127.0.0.1"));
        assert!(!reaches("http://localhost/", &[], "127.0.0.1"));
        assert!(reaches("http://localhost/", &["127.0.0.0/8"], "127.0.0.1"));
        assert!(reaches("http://10.0.0.7/", &[], "10.0.0.7"));
        assert!(!reaches("http://10.0.0.7/", &[], "10.0.0.8"));
        assert!(reaches("http://[::ffff:10.0.0.7]/", &[], "::ffff:10.0.0.7"));
    }

    #[test]
    fn says_what_is_wrong() {
        for (url, methods, addresses, setting) in [
            ("api.example.com", "GET", "::1", "url"),
            ("ftp://a/", "GET", "::1", "url"),
            ("https://a/?q", "GET", "::1", "url"),
            ("https://u@a/", "GET", "::1", "url"),
            ("https://a/../b", "GET", "::1", "url"),
            ("https://a*.b/", "GET", "::1", "url"),
            ("https://a/", "get", "::1", "methods[0]"),
            ("https://a/", "GET", "lan", "addresses[0]"),
        ] {
            let error = HttpPermission::parse(url, &[methods.into()], &[addresses.into()]);
            let found = error.map_err(|error| error.setting);
            assert_eq!(found.unwrap_err(), setting, "{url}");
        }
    }
}
