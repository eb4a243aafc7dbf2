//! Which table each collector's variables become. Every collector is an ingress of its own name, whose readings go
//! to Kraken's broker by a route and a sink of that name, if there is a broker.

use sandbar_reading::TopicFilter;
use toml::Value;

use super::table::Text;
use super::variables::{ANYWHERE, PREFIX, VariableError, Variables, error};

/// One of Kraken's collectors.
struct Collector {
    /// As its variables have it: `WEBHOOK`.
    variables: &'static str,
    /// As brokers' handlers know it.
    name: &'static str,
    driver: &'static str,
    settings: fn(&Variables, &mut Text) -> Result<(), VariableError>,
    broker: Broker,
}

/// What the collector's calls look like to a broker's handlers.
struct Broker {
    /// Beside the content type and the payload: key and template.
    metadata: &'static [(&'static str, &'static str)],
    /// Which answers go back to the peer: see `reply` of the `kraken` sink.
    reply: Option<&'static str>,
}

const SAYS_NOTHING: Broker = Broker { metadata: &[], reply: None };

const COLLECTORS: [Collector; 10] = [
    Collector {
        variables: "WEBHOOK",
        name: "webhook",
        driver: "webhook",
        settings: webhook,
        broker: SAYS_NOTHING,
    },
    Collector { variables: "MQTT", name: "mqtt", driver: "mqtt", settings: mqtt, broker: SAYS_NOTHING },
    Collector {
        variables: "WEBSOCKET",
        name: "websocket",
        driver: "websocket",
        settings: websocket,
        broker: Broker { metadata: &[], reply: Some("collector") },
    },
    Collector {
        variables: "TCP",
        name: "tcp",
        driver: "tcp",
        settings: tcp,
        broker: Broker {
            metadata: &[("peer_addr", "{{ attributes['peer'] }}")],
            reply: Some("response_type"),
        },
    },
    Collector {
        variables: "SERIAL",
        name: "serial",
        driver: "serial",
        settings: serial,
        broker: Broker { metadata: &[("device_name", "{{ device | default('') }}")], reply: None },
    },
    Collector {
        variables: "TEXTFILE",
        name: "textfile",
        driver: "files",
        settings: textfile,
        broker: SAYS_NOTHING,
    },
    Collector {
        variables: "CAMERA",
        name: "camera",
        driver: "camera",
        settings: camera,
        broker: Broker {
            metadata: &[
                ("format", "{{ content_type }}"),
                ("camera_name", "{{ device | default('') }}"),
                ("width", "{{ attributes['width'] }}"),
                ("height", "{{ attributes['height'] }}"),
            ],
            reply: None,
        },
    },
    Collector { variables: "EMAIL", name: "email", driver: "email", settings: email, broker: SAYS_NOTHING },
    Collector {
        variables: "IBEACON",
        name: "ibeacon",
        driver: "ble",
        settings: ibeacon,
        broker: SAYS_NOTHING,
    },
    Collector {
        variables: "BJIG",
        name: "bjig",
        driver: "bravejig",
        settings: bjig,
        broker: Broker {
            metadata: &[("bjig", "{{ attributes['bjig'] | default('data') }}")],
            reply: Some("collector"),
        },
    },
];

pub(super) fn configuration(
    variables: &Variables,
    has_driver: impl Fn(&str) -> bool,
) -> Result<String, VariableError> {
    let mut text = Text::default();
    text.comment("What Kraken's environment variables say.");
    let broker = variables.get("BROKER_HOST").map(broker_url).transpose()?;
    if broker.is_none() {
        text.comment(
            "KRKNC_BROKER_HOST is not set: readings are kept in the journal, and go nowhere until a route",
        );
        text.comment("takes them.");
    }
    for collector in &COLLECTORS {
        let Some(because) = variables.first_of(collector.variables) else { continue };
        if !has_driver(collector.driver) {
            let problem =
                format!("needs the driver `{}`, which this host was built without", collector.driver);
            return Err(error(because, problem));
        }
        text.table(&format!("ingress.{}", collector.name));
        text.set("driver", collector.driver);
        (collector.settings)(variables, &mut text)?;
        if let Some(url) = &broker {
            collector.to_broker(url, variables, &mut text)?;
        }
    }
    Ok(text.finish())
}

impl Collector {
    fn to_broker(&self, url: &str, variables: &Variables, text: &mut Text) -> Result<(), VariableError> {
        let sink = format!("broker-{}", self.name);
        text.table(&format!("sink.{sink}"));
        text.set("kind", "kraken");
        text.set("url", url);
        text.set("collector", self.name);
        text.set("reply", self.broker.reply.unwrap_or("never"));
        if !self.broker.metadata.is_empty() {
            let fields = self
                .broker
                .metadata
                .iter()
                .map(|(key, template)| ((*key).to_owned(), Value::from(*template)));
            text.set("metadata", fields.collect::<toml::Table>());
        }
        text.table(&format!("route.{}", self.name));
        text.set("ingress", self.name);
        if self.variables == "MQTT" {
            text.set_if("topic", topic_filter(variables)?);
        }
        text.set("sinks", vec![sink.clone()]);
        text.set_if("reply", self.broker.reply.map(|_| sink));
        Ok(())
    }
}

/// `broker`, `broker:50051` or a whole URL.
fn broker_url(text: &str) -> Result<String, VariableError> {
    const NAME: &str = "BROKER_HOST";
    const PORT: u16 = 50_051;
    let (scheme, host) = text.split_once("://").unwrap_or(("http", text));
    if !matches!(scheme, "http" | "https") {
        return Err(error(NAME, format!("`{text}` begins with neither http:// nor https://")));
    }
    let host = host.trim_end_matches('/');
    // An IPv6 address without brackets has colons, too.
    let bare = host.parse::<std::net::Ipv6Addr>().is_ok();
    let host = if bare { format!("[{host}]") } else { host.to_owned() };
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if host.is_empty() || !host.chars().all(is_name) {
        return Err(error(NAME, format!("`{text}` is no host, such as broker:{PORT}")));
    }
    Ok(if has_port { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{PORT}") })
}

fn webhook(variables: &Variables, text: &mut Text) -> Result<(), VariableError> {
    variables.required("WEBHOOK_PORT", "WEBHOOK_PATH")?;
    let port: u16 = variables.number("WEBHOOK_PORT")?.unwrap_or_default();
    let path = variables.get("WEBHOOK_PATH").unwrap_or("/");
    if path.contains(['{', '}', '?', '#']) {
        return Err(error("WEBHOOK_PATH", format!("`{path}` is no path, such as /webhook")));
    }
    let path = format!("/{}", path.trim_start_matches('/'));
    text.set("listen", format!("{ANYWHERE}:{port}"));
    let mut table = toml::Table::new();
    table.insert("path".to_owned(), path.clone().into());
    if path == "/" {
        // The topic is the path, unless it is said.
        table.insert("topic".to_owned(), "webhook".into());
    }
    // What Kraken's collector says, whatever becomes of the message; here it says so once it is on disk.
    let answer = [("body".to_owned(), Value::from("{\"status\": \"POST_OK\"}"))];
    table.insert("answer".to_owned(), toml::Table::from_iter(answer).into());
    text.set("paths", vec![Value::Table(table)]);
    Ok(())
}

fn mqtt(variables: &Variables, text: &mut Text) -> Result<(), VariableError> {
    topic_filter(variables)?;
    text.set_if("listen", variables.listen("MQTT_HOST", 1883)?.map(|address| address.to_string()));
    text.set_if("rumqttd_config", variables.get("MQTT_CONFIG_PATH"));
    text.set("content_type", "application/json");
    // Kraken's broker asks nobody for a name.
    text.set("anonymous", true);
    Ok(())
}

/// What Kraken's collector subscribes to, and so what its broker gets.
fn topic_filter(variables: &Variables) -> Result<Option<&str>, VariableError> {
    let Some(topic) = variables.get("MQTT_TOPIC") else { return Ok(None) };
    match topic.parse::<TopicFilter>() {
        Ok(_) => Ok(Some(topic)),
        Err(problem) => Err(error("MQTT_TOPIC", problem.to_string())),
    }
}

fn websocket(variables: &Variables, text: &mut Text) -> Result<(), VariableError> {
    variables.required("WEBSOCKET_HOST", "WEBSOCKET_SUB_PROTOCOL")?;
    text.set_if("listen", variables.listen("WEBSOCKET_HOST", 8000)?.map(|address| address.to_string()));
    text.set_if("sub_protocols", variables.get("WEBSOCKET_SUB_PROTOCOL").map(|name| vec![name.to_owned()]));
    // Kraken's takes whatever path a client asks for.
    let path = |path: &str| {
        toml::Table::from_iter(
            [("path", path), ("topic", "websocket")].map(|(k, v)| (k.to_owned(), v.into())),
        )
    };
    text.set("paths", vec![Value::Table(path("/")), Value::Table(path("/{*rest}"))]);
    text.set("greeting", "{\"kraken\": \"hello\"}");
    Ok(())
}

fn tcp(variables: &Variables, text: &mut Text) -> Result<(), VariableError> {
    let port: u16 = variables.number("TCP_PORT")?.unwrap_or(9000);
    let listen = match variables.listen("TCP_HOST", port)? {
        Some(mut address) => {
            if variables.get("TCP_PORT").is_some() {
                address.set_port(port);
            }
            address
        }
        None => (ANYWHERE, port).into(),
    };
    text.set("listen", listen.to_string());
    text.set("framing", kind("raw"));
    let size = variables.number::<u32>("TCP_BUFFER_SIZE")?.unwrap_or(4096);
    text.set("frame_max", above_0("TCP_BUFFER_SIZE", size)?);
    Ok(())
}

fn serial(variables: &Variables, text: &mut Text) -> Result<(), VariableError> {
    let because = variables.first_of("SERIAL").unwrap_or_default();
    text.set("port", variables.required("SERIAL_PORT", because)?);
    let baud = variables.number::<u32>("SERIAL_BAUDRATE")?.unwrap_or(9600);
    text.set("baud", above_0("SERIAL_BAUDRATE", baud)?);
    text.set("framing", kind("raw"));
    text.set_if("read_timeout_ms", variables.millis("SERIAL_TIMEOUT_SEC")?);
    text.set_if("device", variables.get("SERIAL_DEVICE_NAME"));
    Ok(())
}

fn textfile(variables: &Variables, text: &mut Text) -> Result<(), VariableError> {
    const MODE: &str = "TEXTFILE_MONITORING_MODE";
    let interval = variables.millis("TEXTFILE_GET_INTERVAL_SEC")?.unwrap_or(10_000);
    let mode = variables.get(MODE).unwrap_or("time_interval");
    match mode {
        "time_interval" => {
            text.set("mode", "interval");
            text.set("path", variables.get("TEXTFILE_TARGET_FILE_PATH").unwrap_or("data/data.txt"));
            text.set("interval_ms", interval);
        }
        "event_driven" => {
            text.set("mode", "event");
            text.set("path", variables.get("TEXTFILE_MONITOR_DIR_PATH").unwrap_or("data/"));
            text.set("settle_ms", interval);
            text.set("on_create", variables.flag("TEXTFILE_ALLOW_CREATE")?.unwrap_or(true));
            text.set("on_modify", variables.flag("TEXTFILE_ALLOW_MODIFY")?.unwrap_or(true));
        }
        other => {
            return Err(error(MODE, format!("`{other}` is neither time_interval nor event_driven")));
        }
    }
    text.set("content_type", "text/plain");
    for (variable, setting) in [
        ("TEXTFILE_REMOVE_CREATED_FILE_AFTER_READ", "remove_created"),
        ("TEXTFILE_REMOVE_FILES_EXCEPT_MODIFIED_AFTER_READ", "remove_except_modified"),
        ("TEXTFILE_REMOVE_ALL_FILES_AFTER_READ", "remove_all_files"),
        ("TEXTFILE_REMOVE_ALL_FOLDER_AFTER_READ", "remove_all_folders"),
    ] {
        // Off, unless they are on.
        if variables.flag(variable)? != Some(true) {
            continue;
        }
        if mode == "time_interval" && !setting.starts_with("remove_all") {
            text.comment(&format!("{PREFIX}{variable} is of files that appear and change: here is one."));
        } else {
            text.set(setting, true);
        }
    }
    Ok(())
}

fn camera(variables: &Variables, text: &mut Text) -> Result<(), VariableError> {
    text.set_if("interval_ms", variables.millis("CAMERA_CAPTURE_INTERVAL_SEC")?);
    Ok(())
}

fn email(variables: &Variables, text: &mut Text) -> Result<(), VariableError> {
    let port: u16 = variables.number("EMAIL_SMTP_PORT")?.unwrap_or(587);
    let address = variables.listen("EMAIL_HOST_ADDR", port)?.unwrap_or_else(|| (ANYWHERE, port).into());
    text.set("listen", address.to_string());
    text.set_if("domain", variables.get("EMAIL_DOMAIN"));
    for (variable, setting) in
        [("EMAIL_MAX_MESSAGE_SIZE", "message_max"), ("EMAIL_MAX_ATTACHMENT_SIZE", "attachment_max")]
    {
        if let Some(bytes) = variables.number::<u32>(variable)? {
            text.set(setting, above_0(variable, bytes)?);
        }
    }
    if let Some(senders) = variables.get("EMAIL_ALLOWED_SENDERS") {
        let senders = senders.split(',').map(str::trim).filter(|sender| !sender.is_empty());
        text.set("allowed_senders", senders.map(|sender| sender.to_owned()).collect::<Vec<_>>());
    }
    if variables.flag("EMAIL_AUTH_REQUIRED")? == Some(true) {
        return Err(error(
            "EMAIL_AUTH_REQUIRED",
            "Kraken has no variable for who may log in: write the configuration to a file with \
             `sandbar check --from-kraken`, without this variable, and add `users` to it",
        ));
    }
    let (certificate, key) = (variables.get("EMAIL_TLS_CERT_PATH"), variables.get("EMAIL_TLS_KEY_PATH"));
    if variables.flag("EMAIL_TLS_ENABLED")? == Some(true) {
        let mut tls = toml::Table::new();
        let needed = |name| variables.required(name, "EMAIL_TLS_ENABLED");
        tls.insert(
            "certificate_file".to_owned(),
            certificate.map_or_else(|| needed("EMAIL_TLS_CERT_PATH"), Ok)?.into(),
        );
        tls.insert("key_file".to_owned(), key.map_or_else(|| needed("EMAIL_TLS_KEY_PATH"), Ok)?.into());
        text.set("tls", tls);
        text.set_if("tls_required", variables.flag("EMAIL_TLS_REQUIRE")?);
    } else if variables.flag("EMAIL_TLS_REQUIRE")? == Some(true) {
        return Err(error("EMAIL_TLS_REQUIRE", format!("is true, but {PREFIX}EMAIL_TLS_ENABLED is not")));
    }
    Ok(())
}

fn ibeacon(variables: &Variables, text: &mut Text) -> Result<(), VariableError> {
    text.set_if("duplicate_window_ms", variables.millis("IBEACON_FILTER_DURATION_SEC")?);
    text.set_if("allowed_uuids_file", variables.get("IBEACON_ALLOWED_UUID_FILTER_PATH"));
    Ok(())
}

fn bjig(variables: &Variables, text: &mut Text) -> Result<(), VariableError> {
    if variables.get("BJIG_CLI_BIN_PATH").is_some() {
        text.comment("KRKNC_BJIG_CLI_BIN_PATH is not needed: no other program is run.");
    }
    text.set("port", variables.get("BJIG_DEVICE_PATH").unwrap_or("/dev/ttyACM0"));
    text.set("data_timeout_ms", variables.millis("BJIG_DATA_TIMEOUT_SEC")?.unwrap_or(300_000));
    text.set("cooldown_ms", variables.millis("BJIG_ACTION_COOLDOWN_SEC")?.unwrap_or(30_000));
    Ok(())
}

/// `{ kind = "raw" }`.
fn kind(name: &str) -> toml::Table {
    toml::Table::from_iter([("kind".to_owned(), name.into())])
}

fn above_0(name: &str, number: u32) -> Result<i64, VariableError> {
    match number {
        0 => Err(error(name, "must be above 0")),
        number => Ok(number.into()),
    }
}
