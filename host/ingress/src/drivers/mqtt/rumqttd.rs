//! Listeners from rumqttd's configuration: its `[v4.NAME]`, `[v5.NAME]` and `[ws.NAME]` tables.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use sandbar_reading::ConfigError;
use serde::Deserialize;

use super::config::{ListenerConfig, Transport};
use super::listener::Listen;
use crate::tls::ServerTls;

/// What is read of it; the rest is about that broker's inside.
#[derive(Debug, Default, Deserialize)]
struct File {
    #[serde(default)]
    v4: BTreeMap<String, Server>,
    #[serde(default)]
    v5: BTreeMap<String, Server>,
    #[serde(default)]
    ws: BTreeMap<String, Server>,
}

#[derive(Debug, Deserialize)]
struct Server {
    listen: SocketAddr,
    #[serde(default)]
    tls: Option<Tls>,
}

#[derive(Debug, Deserialize)]
struct Tls {
    certpath: Option<PathBuf>,
    keypath: Option<PathBuf>,
    capath: Option<PathBuf>,
}

/// Errors have the path within the file as their setting.
pub(super) fn listeners(path: &Path) -> Result<Vec<Listen>, ConfigError> {
    let problem = |text: String| ConfigError::at("", format!("{}: {text}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
    configs(&text).map_err(|error| problem(error.to_string()))?.iter().map(Listen::new).collect()
}

fn configs(text: &str) -> Result<Vec<ListenerConfig>, ConfigError> {
    let file: File = toml::from_str(text).map_err(|error| ConfigError::at("", error.message()))?;
    let mut listeners = Vec::new();
    for (table, servers, protocol) in [
        ("v4", file.v4, Transport::Tcp),
        ("v5", file.v5, Transport::Tcp),
        ("ws", file.ws, Transport::WebSocket),
    ] {
        for (name, server) in servers {
            let tls = match server.tls {
                None => None,
                Some(Tls { certpath: Some(certificate_file), keypath: Some(key_file), capath }) => {
                    // There, naming an authority asks every client for a certificate.
                    Some(ServerTls {
                        certificate_file,
                        key_file,
                        client_ca_file: capath,
                        client_optional: false,
                    })
                }
                Some(_) => {
                    let setting = format!("{table}.{name}.tls");
                    return Err(ConfigError::at(setting, "needs `certpath` and `keypath`"));
                }
            };
            listeners.push(ListenerConfig { listen: server.listen, protocol, tls });
        }
    }
    match listeners.is_empty() {
        true => Err(ConfigError::at("", "has no listener: `[v4.1]`, `[v5.1]` or `[ws.1]` with `listen`")),
        false => Ok(listeners),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_broker_ships() {
        let text = r#"
id = 0
[router]
id = 0
max_connections = 10010
max_segment_size = 104857600
[v4.1]
name = "v4-1"
listen = "0.0.0.0:1883"
next_connection_delay_ms = 1
    [v4.1.connections]
    connection_timeout_ms = 60000
    max_payload_size = 20480
    max_inflight_count = 100
[v4.2]
listen = "0.0.0.0:8883"
    [v4.2.tls]
    certpath = "server.crt"
    keypath = "server.key"
    capath = "ca.crt"
[v5.1]
listen = "0.0.0.0:1884"
[ws.1]
listen = "0.0.0.0:8083"
"#;
        let found = configs(text).unwrap();
        let shown: Vec<String> = found
            .iter()
            .map(|one| {
                let required = one.tls.as_ref().map(|tls| tls.client_ca_file.is_some());
                format!("{} {:?} {required:?}", one.listen, one.protocol)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "0.0.0.0:1883 Tcp None",
                "0.0.0.0:8883 Tcp Some(true)",
                "0.0.0.0:1884 Tcp None",
                "0.0.0.0:8083 WebSocket None"
            ]
        );
    }

    #[test]
    fn says_what_is_missing() {
        let error = configs("[v4.1]\nlisten = \"127.0.0.1:1\"\n[v4.1.tls]\ncertpath = \"a\"\n").unwrap_err();
        assert_eq!(error.to_string(), "v4.1.tls: needs `certpath` and `keypath`");
        assert!(configs("[router]\n").is_err());
    }
}
