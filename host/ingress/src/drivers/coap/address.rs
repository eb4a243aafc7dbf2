//! Where a node is.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
use sandbar_reading::ConfigError;

use crate::coap::call::CallError;

/// CoAP's ports (RFC 7252, section 6).
const PORT: u16 = 5683;
const PORT_SECURE: u16 = 5684;

/// A network interface's name has fewer bytes (netdevice(7)).
const INTERFACE_MAX: usize = 16;

/// The setting `address` of a node, checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    host: Host,
    port: u16,
}

#[derive(Debug, PartialEq, Eq)]
enum Host {
    Name(Box<str>),
    Ip(IpAddr),
    /// A link-local address, and the interface that it is reached by: its name, or its number (RFC 4007, section 11).
    Link(Ipv6Addr, Box<str>),
}

impl Address {
    /// Of `10.0.0.7`, `10.0.0.7:5690`, `fd00::1`, `[fd00::1]:5690`, `[fe80::1%eth0]`, `lamp.local:5690`.
    pub(super) fn parse(text: &str, is_secure: bool) -> Result<Self, ConfigError> {
        let refused = |problem: &str| Err(ConfigError::at("address", problem));
        let unlike = "must be like `10.0.0.7`, `[fd00::1]:5683`, `fe80::1%eth0` or `lamp.local`";
        let Some((host, port)) = split(text) else { return refused(unlike) };
        let (ip, interface) =
            host.split_once('%').map_or((host, None), |(ip, interface)| (ip, Some(interface)));
        let host = match (ip.parse::<IpAddr>(), interface) {
            (Ok(IpAddr::V6(ip)), Some(interface)) if ip.is_unicast_link_local() => {
                if !is_interface(interface) {
                    return refused("must have the name or number of an interface after the `%`");
                }
                Host::Link(ip, interface.into())
            }
            // Sent to by no interface in particular, its answers come from an address that has one.
            (Ok(IpAddr::V6(ip)), None) if ip.is_unicast_link_local() => {
                return refused("is link-local: say by which interface it is reached, as in `fe80::1%eth0`");
            }
            (Ok(_), Some(_)) => {
                return refused("only a link-local address (fe80::/10) has an interface (`%`)");
            }
            (Ok(ip), None) => Host::Ip(ip.to_canonical()),
            (Err(_), None) if is_name(host) => Host::Name(host.into()),
            (Err(_), _) => return refused(unlike),
        };
        Ok(Self { host, port: port.unwrap_or(if is_secure { PORT_SECURE } else { PORT }) })
    }

    /// Anew each time: names come to mean something else, and an interface that is plugged in again has another number.
    pub(super) async fn look_up(&self) -> Result<SocketAddr, CallError> {
        match &self.host {
            Host::Name(name) => {
                let found = tokio::net::lookup_host((&**name, self.port)).await;
                found.ok().and_then(|mut addresses| addresses.next()).ok_or(CallError::Unknown)
            }
            Host::Ip(ip) => Ok((*ip, self.port).into()),
            Host::Link(ip, interface) => {
                let number = number(interface).ok_or_else(|| CallError::NoInterface(interface.clone()))?;
                Ok(SocketAddrV6::new(*ip, self.port, 0, number).into())
            }
        }
    }

    /// Whether `peer` may be the node, as far as the setting tells; at any port.
    pub(super) fn has(&self, peer: SocketAddr) -> bool {
        match (&self.host, peer) {
            (Host::Name(_), _) => false,
            (Host::Ip(ip), peer) => *ip == peer.ip().to_canonical(),
            (Host::Link(ip, interface), SocketAddr::V6(peer)) => {
                ip == peer.ip() && number(interface) == Some(peer.scope_id())
            }
            (Host::Link(..), SocketAddr::V4(_)) => false,
        }
    }
}

/// Host and port, if it has one. An IPv6 address with a port stands in brackets.
fn split(text: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, rest) = rest.split_once(']')?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':')?.parse().ok()?),
        };
        return ip.contains(':').then_some((ip, port));
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => Some((host, Some(port.parse().ok()?))),
        _ => Some((text, None)),
    }
}

fn is_name(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

fn is_interface(name: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_graphic() && !b"/:%[]".contains(&b);
    (1..INTERFACE_MAX).contains(&name.len()) && name.bytes().all(is_part)
}

/// The number of an interface of that name, or that has this number.
fn number(interface: &str) -> Option<u32> {
    // Any socket will do: it is only what the kernel is asked by.
    let socket = socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
    netdevice::name_to_index(&socket, interface).ok().or_else(|| {
        let number = interface.parse().ok()?;
        netdevice::index_to_name_inlined(&socket, number).is_ok().then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Address {
        Address::parse(text, false).unwrap()
    }

    fn problem(text: &str) -> String {
        let error = Address::parse(text, false).unwrap_err();
        assert_eq!(error.setting, "address");
        error.problem
    }

    #[tokio::test]
    async fn addresses_have_a_port_or_get_one() {
        for (text, wanted) in [
            ("10.0.0.7", "10.0.0.7:5683"),
            ("10.0.0.7:1", "10.0.0.7:1"),
            ("fd00::1", "[fd00::1]:5683"),
            ("[fd00::1]", "[fd00::1]:5683"),
            ("[fd00::1]:2", "[fd00::1]:2"),
            ("::ffff:10.0.0.7", "10.0.0.7:5683"),
        ] {
            assert_eq!(parse(text).look_up().await.unwrap().to_string(), wanted);
        }
        let named = |name: &str, port| Address { host: Host::Name(name.into()), port };
        assert_eq!(parse("lamp.local"), named("lamp.local", 5683));
        assert_eq!(parse("lamp:3"), named("lamp", 3));
        assert_eq!(Address::parse("lamp", true).unwrap(), named("lamp", 5684));
        let bad =
            ["", ":1", "a:b", "coap://a", "a b", "[::1", "1.2.3.4:70000", "[lamp]:1", "lamp%lo", "[::1]1"];
        for bad in bad {
            assert!(problem(bad).starts_with("must be like"), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_link_local_address_has_an_interface_by_name_or_number() {
        // The loopback interface is always the first.
        for text in ["fe80::1%lo", "[fe80::1%lo]", "[fe80::1%1]:5683", "fe80::1%1"] {
            assert_eq!(parse(text).look_up().await.unwrap().to_string(), "[fe80::1%1]:5683");
        }
        for text in ["fe80::1%none0", "[fe80::1%4000000000]:1"] {
            let error = parse(text).look_up().await.unwrap_err().to_string();
            assert!(error.starts_with("its setting `address` names a network interface"), "{error}");
        }
        for bad in ["fe80::1", "[fe80::1]:1"] {
            assert!(problem(bad).starts_with("is link-local"), "{bad}");
        }
        for bad in ["fe80::1%", "[fe80::1%a/b]", "fe80::1%lo:1", "fe80::1%interface0123456"] {
            assert!(problem(bad).starts_with("must have the name"), "{bad}");
        }
        for bad in ["fd00::1%lo", "10.0.0.7%lo", "[::1%lo]:1"] {
            assert!(problem(bad).starts_with("only a link-local"), "{bad}");
        }
    }

    #[test]
    fn who_sends_by_another_interface_is_somebody_else() {
        let has = |address: &str, peer: &str| parse(address).has(peer.parse().unwrap());
        assert!(has("fe80::1%lo", "[fe80::1%1]:4000"));
        assert!(!has("fe80::1%lo", "[fe80::1%2]:4000"));
        assert!(!has("fe80::1%none0", "[fe80::1%1]:4000"));
        assert!(!has("fe80::1%lo", "[fe80::2%1]:4000"));
        assert!(has("10.0.0.7:1", "[::ffff:10.0.0.7]:4000"));
        assert!(!has("10.0.0.7", "10.0.0.8:5683"));
        assert!(!has("lamp.local", "10.0.0.7:5683"));
    }
}
