use std::collections::BTreeSet;

use expect_test::{Expect, expect};

use super::variables::NAMES;
use super::*;

fn read(variables: &[(&str, &str)]) -> Result<String, String> {
    read_with(variables, |_| true)
}

fn read_with(variables: &[(&str, &str)], drivers: impl Fn(&str) -> bool) -> Result<String, String> {
    let environment = variables.iter().map(|(name, value)| (format!("KRKNC_{name}"), (*value).to_owned()));
    match FromKraken::read(environment, drivers) {
        Ok(Some(from)) => Ok(from.text().to_owned()),
        Ok(None) => Ok(String::new()),
        Err(error) => Err(error.to_string()),
    }
}

fn check(variables: &[(&str, &str)], expected: &Expect) {
    expected.assert_eq(&read(variables).unwrap_or_else(|error| format!("Err({error})")));
}

/// One good value of each, in an order in which each changes something.
const EVERY: [(&str, &str); 43] = [
    ("BROKER_HOST", "broker.example.com:50052"),
    ("WEBHOOK_PATH", "/in"),
    ("WEBHOOK_PORT", "3000"),
    ("MQTT_HOST", "0.0.0.0:1884"),
    ("MQTT_TOPIC", "plant/#"),
    ("MQTT_CONFIG_PATH", "/etc/rumqttd.toml"),
    ("WEBSOCKET_HOST", "0.0.0.0:8001"),
    ("WEBSOCKET_SUB_PROTOCOL", "kraken.v1"),
    ("IBEACON_FILTER_DURATION_SEC", "5"),
    ("IBEACON_ALLOWED_UUID_FILTER_PATH", "/etc/uuids.yaml"),
    ("SERIAL_DEVICE_NAME", "press"),
    ("SERIAL_PORT", "/dev/ttyUSB7"),
    ("SERIAL_BAUDRATE", "19200"),
    ("SERIAL_TIMEOUT_SEC", "2.5"),
    ("TEXTFILE_TARGET_FILE_PATH", "/data/x.txt"),
    ("TEXTFILE_MONITOR_DIR_PATH", "/data/in"),
    ("TEXTFILE_GET_INTERVAL_SEC", "3"),
    ("TEXTFILE_MONITORING_MODE", "event_driven"),
    ("TEXTFILE_ALLOW_CREATE", "false"),
    ("TEXTFILE_ALLOW_MODIFY", "0"),
    ("TEXTFILE_REMOVE_CREATED_FILE_AFTER_READ", "true"),
    ("TEXTFILE_REMOVE_FILES_EXCEPT_MODIFIED_AFTER_READ", "TRUE"),
    ("TEXTFILE_REMOVE_ALL_FILES_AFTER_READ", "1"),
    ("TEXTFILE_REMOVE_ALL_FOLDER_AFTER_READ", "yes"),
    ("CAMERA_CAPTURE_INTERVAL_SEC", "7"),
    ("EMAIL_HOST_ADDR", "127.0.0.1"),
    ("EMAIL_SMTP_PORT", "2526"),
    ("EMAIL_MAX_MESSAGE_SIZE", "1000000"),
    ("EMAIL_MAX_ATTACHMENT_SIZE", "500000"),
    ("EMAIL_DOMAIN", "plant.example.com"),
    ("EMAIL_AUTH_REQUIRED", "false"),
    ("EMAIL_ALLOWED_SENDERS", "a@example.com, example.org"),
    ("EMAIL_TLS_ENABLED", "true"),
    ("EMAIL_TLS_CERT_PATH", "/etc/cert.pem"),
    ("EMAIL_TLS_KEY_PATH", "/etc/key.pem"),
    ("EMAIL_TLS_REQUIRE", "true"),
    ("BJIG_DEVICE_PATH", "/dev/ttyACM7"),
    ("BJIG_CLI_BIN_PATH", "/usr/bin/bjig"),
    ("BJIG_DATA_TIMEOUT_SEC", "60"),
    ("BJIG_ACTION_COOLDOWN_SEC", "10"),
    ("TCP_HOST", "127.0.0.1"),
    ("TCP_PORT", "9001"),
    ("TCP_BUFFER_SIZE", "512"),
];

#[test]
fn all_43_are_known_and_each_is_heard() {
    let known: BTreeSet<_> = NAMES.into_iter().collect();
    assert_eq!(known.len(), 43);
    assert_eq!(EVERY.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>(), known);
    let all = read(&EVERY).unwrap();
    for (name, _) in EVERY {
        let others: Vec<_> = EVERY.into_iter().filter(|(other, _)| *other != name).collect();
        // One says what is the default anyway, one what is read in the other mode, and what one belongs to.
        let changes_nothing = ["EMAIL_AUTH_REQUIRED", "TEXTFILE_TARGET_FILE_PATH"].contains(&name);
        assert_eq!(read(&others).as_ref() == Ok(&all), changes_nothing, "{name}");
    }
    let on = [("TEXTFILE_TARGET_FILE_PATH", "/data/x.txt")];
    assert!(read(&on).unwrap().contains("/data/x.txt"));
    assert!(read(&[("EMAIL_AUTH_REQUIRED", "true")]).unwrap_err().starts_with("KRKNC_EMAIL_AUTH_REQUIRED: "));
}

#[test]
fn together_they_are_this_configuration() {
    check(
        &EVERY,
        &expect![[r##"
        # What Kraken's environment variables say.

        [ingress.webhook]
        driver = "webhook"
        listen = "0.0.0.0:3000"
        paths = [{ answer = { body = '{"status": "POST_OK"}' }, path = "/in" }]

        [sink.broker-webhook]
        kind = "kraken"
        url = "http://broker.example.com:50052"
        collector = "webhook"
        reply = "never"

        [route.webhook]
        ingress = "webhook"
        sinks = ["broker-webhook"]

        [ingress.mqtt]
        driver = "mqtt"
        listen = "0.0.0.0:1884"
        rumqttd_config = "/etc/rumqttd.toml"
        content_type = "application/json"
        anonymous = true

        [sink.broker-mqtt]
        kind = "kraken"
        url = "http://broker.example.com:50052"
        collector = "mqtt"
        reply = "never"

        [route.mqtt]
        ingress = "mqtt"
        topic = "plant/#"
        sinks = ["broker-mqtt"]

        [ingress.websocket]
        driver = "websocket"
        listen = "0.0.0.0:8001"
        sub_protocols = ["kraken.v1"]
        paths = [{ path = "/", topic = "websocket" }, { path = "/{*rest}", topic = "websocket" }]
        greeting = '{"kraken": "hello"}'

        [sink.broker-websocket]
        kind = "kraken"
        url = "http://broker.example.com:50052"
        collector = "websocket"
        reply = "collector"

        [route.websocket]
        ingress = "websocket"
        sinks = ["broker-websocket"]
        reply = "broker-websocket"

        [ingress.tcp]
        driver = "tcp"
        listen = "127.0.0.1:9001"
        framing = { kind = "raw" }
        frame_max = 512

        [sink.broker-tcp]
        kind = "kraken"
        url = "http://broker.example.com:50052"
        collector = "tcp"
        reply = "response_type"
        metadata = { peer_addr = "{{ attributes['peer'] }}" }

        [route.tcp]
        ingress = "tcp"
        sinks = ["broker-tcp"]
        reply = "broker-tcp"

        [ingress.serial]
        driver = "serial"
        port = "/dev/ttyUSB7"
        baud = 19200
        framing = { kind = "raw" }
        read_timeout_ms = 2500
        device = "press"

        [sink.broker-serial]
        kind = "kraken"
        url = "http://broker.example.com:50052"
        collector = "serial"
        reply = "never"
        metadata = { device_name = "{{ device | default('') }}" }

        [route.serial]
        ingress = "serial"
        sinks = ["broker-serial"]

        [ingress.textfile]
        driver = "files"
        mode = "event"
        path = "/data/in"
        settle_ms = 3000
        on_create = false
        on_modify = false
        content_type = "text/plain"
        remove_created = true
        remove_except_modified = true
        remove_all_files = true
        remove_all_folders = true

        [sink.broker-textfile]
        kind = "kraken"
        url = "http://broker.example.com:50052"
        collector = "textfile"
        reply = "never"

        [route.textfile]
        ingress = "textfile"
        sinks = ["broker-textfile"]

        [ingress.camera]
        driver = "camera"
        interval_ms = 7000

        [sink.broker-camera]
        kind = "kraken"
        url = "http://broker.example.com:50052"
        collector = "camera"
        reply = "never"
        metadata = { camera_name = "{{ device | default('') }}", format = "{{ content_type }}", height = "{{ attributes['height'] }}", width = "{{ attributes['width'] }}" }

        [route.camera]
        ingress = "camera"
        sinks = ["broker-camera"]

        [ingress.email]
        driver = "email"
        listen = "127.0.0.1:2526"
        domain = "plant.example.com"
        message_max = 1000000
        attachment_max = 500000
        allowed_senders = ["a@example.com", "example.org"]
        tls = { certificate_file = "/etc/cert.pem", key_file = "/etc/key.pem" }
        tls_required = true

        [sink.broker-email]
        kind = "kraken"
        url = "http://broker.example.com:50052"
        collector = "email"
        reply = "never"

        [route.email]
        ingress = "email"
        sinks = ["broker-email"]

        [ingress.ibeacon]
        driver = "ble"
        duplicate_window_ms = 5000
        allowed_uuids_file = "/etc/uuids.yaml"

        [sink.broker-ibeacon]
        kind = "kraken"
        url = "http://broker.example.com:50052"
        collector = "ibeacon"
        reply = "never"

        [route.ibeacon]
        ingress = "ibeacon"
        sinks = ["broker-ibeacon"]

        [ingress.bjig]
        driver = "bravejig"
        # KRKNC_BJIG_CLI_BIN_PATH is not needed: no other program is run.
        port = "/dev/ttyACM7"
        data_timeout_ms = 60000
        cooldown_ms = 10000

        [sink.broker-bjig]
        kind = "kraken"
        url = "http://broker.example.com:50052"
        collector = "bjig"
        reply = "collector"
        metadata = { bjig = "{{ attributes['bjig'] | default('data') }}" }

        [route.bjig]
        ingress = "bjig"
        sinks = ["broker-bjig"]
        reply = "broker-bjig"
    "##]],
    );
}

#[test]
fn each_collector_alone_has_krakens_defaults() {
    check(
        &[("WEBHOOK_PORT", "3000")],
        &expect![[r##"
        # What Kraken's environment variables say.
        # KRKNC_BROKER_HOST is not set: readings are kept in the journal, and go nowhere until a route
        # takes them.

        [ingress.webhook]
        driver = "webhook"
        listen = "0.0.0.0:3000"
        paths = [{ answer = { body = '{"status": "POST_OK"}' }, path = "/", topic = "webhook" }]
    "##]],
    );
    check(
        &[("TCP_PORT", "9000"), ("BROKER_HOST", "broker")],
        &expect![[r##"
        # What Kraken's environment variables say.

        [ingress.tcp]
        driver = "tcp"
        listen = "0.0.0.0:9000"
        framing = { kind = "raw" }
        frame_max = 4096

        [sink.broker-tcp]
        kind = "kraken"
        url = "http://broker:50051"
        collector = "tcp"
        reply = "response_type"
        metadata = { peer_addr = "{{ attributes['peer'] }}" }

        [route.tcp]
        ingress = "tcp"
        sinks = ["broker-tcp"]
        reply = "broker-tcp"
    "##]],
    );
    check(
        &[("TEXTFILE_GET_INTERVAL_SEC", "10")],
        &expect![[r##"
        # What Kraken's environment variables say.
        # KRKNC_BROKER_HOST is not set: readings are kept in the journal, and go nowhere until a route
        # takes them.

        [ingress.textfile]
        driver = "files"
        mode = "interval"
        path = "data/data.txt"
        interval_ms = 10000
        content_type = "text/plain"
    "##]],
    );
    let removing = [
        ("TEXTFILE_REMOVE_CREATED_FILE_AFTER_READ", "true"),
        ("TEXTFILE_REMOVE_ALL_FILES_AFTER_READ", "true"),
    ];
    let removing = read(&removing).unwrap();
    assert!(
        removing.contains("\nremove_all_files = true") && !removing.contains("remove_created"),
        "{removing}"
    );
    check(
        &[("EMAIL_SMTP_PORT", "587")],
        &expect![[r##"
        # What Kraken's environment variables say.
        # KRKNC_BROKER_HOST is not set: readings are kept in the journal, and go nowhere until a route
        # takes them.

        [ingress.email]
        driver = "email"
        listen = "0.0.0.0:587"
    "##]],
    );
    check(
        &[("BJIG_DEVICE_PATH", "/dev/ttyACM0")],
        &expect![[r##"
        # What Kraken's environment variables say.
        # KRKNC_BROKER_HOST is not set: readings are kept in the journal, and go nowhere until a route
        # takes them.

        [ingress.bjig]
        driver = "bravejig"
        port = "/dev/ttyACM0"
        data_timeout_ms = 300000
        cooldown_ms = 30000
    "##]],
    );
}

#[test]
fn what_cannot_be_understood_names_its_variable() {
    for (variables, expected) in [
        (
            &[("WEBHOOK_PROT", "3000")][..],
            "KRKNC_WEBHOOK_PROT: is none of Kraken's variables; did you mean KRKNC_WEBHOOK_PORT?",
        ),
        (&[("WEBHOOK_PATH", "/in")], "KRKNC_WEBHOOK_PORT: is not set, but KRKNC_WEBHOOK_PATH is"),
        (
            &[("WEBHOOK_PORT", "70000")],
            "KRKNC_WEBHOOK_PORT: `70000` is no number that fits: number too large to fit in target type",
        ),
        (
            &[("WEBHOOK_PORT", "1"), ("WEBHOOK_PATH", "/{x}")],
            "KRKNC_WEBHOOK_PATH: `/{x}` is no path, such as /webhook",
        ),
        (
            &[("BROKER_HOST", "ftp://broker")],
            "KRKNC_BROKER_HOST: `ftp://broker` begins with neither http:// nor https://",
        ),
        (&[("BROKER_HOST", "bro ker")], "KRKNC_BROKER_HOST: `bro ker` is no host, such as broker:50051"),
        (
            &[("MQTT_TOPIC", "a/#/b")],
            "KRKNC_MQTT_TOPIC: `#` must be the whole last level: `a/#`, not `a/#/b` (level 2)",
        ),
        (
            &[("MQTT_HOST", "mqtt.example.com")],
            "KRKNC_MQTT_HOST: `mqtt.example.com` is no address of this machine to listen at, such as 0.0.0.0:1883",
        ),
        (
            &[("WEBSOCKET_SUB_PROTOCOL", "x")],
            "KRKNC_WEBSOCKET_HOST: is not set, but KRKNC_WEBSOCKET_SUB_PROTOCOL is",
        ),
        (&[("SERIAL_BAUDRATE", "0"), ("SERIAL_PORT", "x")], "KRKNC_SERIAL_BAUDRATE: must be above 0"),
        (
            &[("SERIAL_TIMEOUT_SEC", "-1"), ("SERIAL_PORT", "x")],
            "KRKNC_SERIAL_TIMEOUT_SEC: `-1` is no number of seconds above 0",
        ),
        (&[("SERIAL_DEVICE_NAME", "a")], "KRKNC_SERIAL_PORT: is not set, but KRKNC_SERIAL_DEVICE_NAME is"),
        (
            &[("TEXTFILE_MONITORING_MODE", "poll")],
            "KRKNC_TEXTFILE_MONITORING_MODE: `poll` is neither time_interval nor event_driven",
        ),
        (
            &[("TEXTFILE_REMOVE_ALL_FILES_AFTER_READ", "ja")],
            "KRKNC_TEXTFILE_REMOVE_ALL_FILES_AFTER_READ: `ja` is neither true nor false",
        ),
        (
            &[("EMAIL_TLS_ENABLED", "true")],
            "KRKNC_EMAIL_TLS_CERT_PATH: is not set, but KRKNC_EMAIL_TLS_ENABLED is",
        ),
        (
            &[("EMAIL_TLS_REQUIRE", "true")],
            "KRKNC_EMAIL_TLS_REQUIRE: is true, but KRKNC_EMAIL_TLS_ENABLED is not",
        ),
        (
            &[("TCP_BUFFER_SIZE", "4 KB")],
            "KRKNC_TCP_BUFFER_SIZE: `4 KB` is no number that fits: invalid digit found in string",
        ),
        (
            &[("IBEACON_FILTER_DURATION", "1"), ("IBEACON_FILTER_DURATION_SEC", "2")],
            "KRKNC_IBEACON_FILTER_DURATION_SEC: and KRKNC_IBEACON_FILTER_DURATION_SEC say different things",
        ),
        (&[("TCP_HOST", "\u{fffd}")], "KRKNC_TCP_HOST: is not UTF-8"),
    ] {
        assert_eq!(read(variables), Err(expected.to_owned()));
    }
}

#[test]
fn a_collector_whose_driver_is_not_there_names_the_variable() {
    let error = read_with(&[("CAMERA_CAPTURE_INTERVAL_SEC", "1")], |driver| driver != "camera").unwrap_err();
    assert_eq!(
        error,
        "KRKNC_CAMERA_CAPTURE_INTERVAL_SEC: needs the driver `camera`, which this host was built without"
    );
}

#[test]
fn the_codes_own_spelling_counts_and_empty_ones_do_not() {
    let spelled = read(&[("IBEACON_FILTER_DURATION", "1.5")]).unwrap();
    assert_eq!(Ok(spelled), read(&[("IBEACON_FILTER_DURATION_SEC", "1.5")]));
    assert_eq!(read(&[("TCP_HOST", " "), ("BROKER_HOST", "")]), Ok(String::new()));
}

#[test]
fn what_this_host_has_drivers_for_is_a_sound_configuration() {
    let has = |driver: &str| sandbar_ingress::kinds().any(|kind| kind.name == driver);
    for (variables, driver) in [
        (&[("BROKER_HOST", "broker"), ("WEBHOOK_PORT", "3000"), ("WEBHOOK_PATH", "in")][..], "webhook"),
        (&[("BROKER_HOST", "broker"), ("TCP_PORT", "9000")], "tcp"),
        (&[("BROKER_HOST", "broker"), ("IBEACON_FILTER_DURATION_SEC", "2.5")], "ble"),
        (&[("BROKER_HOST", "broker"), ("CAMERA_CAPTURE_INTERVAL_SEC", "60")], "camera"),
        (&[("BROKER_HOST", "::1"), ("EMAIL_SMTP_PORT", "587")], "email"),
        (&[("BROKER_HOST", "broker"), ("MQTT_HOST", "localhost"), ("MQTT_TOPIC", "a/+")], "mqtt"),
        (
            &[("BROKER_HOST", "broker"), ("WEBSOCKET_HOST", "[::1]:8000"), ("WEBSOCKET_SUB_PROTOCOL", "x")],
            "websocket",
        ),
    ] {
        if !has(driver) {
            assert!(read_with(variables, has).unwrap_err().contains(driver));
            continue;
        }
        let text = read_with(variables, has).unwrap();
        let from = FromKraken { text: text.clone() };
        from.declared().unwrap_or_else(|problem| panic!("{problem}\n{text}"));
        let table: toml::Table = text.parse().unwrap();
        for (name, ingress) in table["ingress"].as_table().unwrap() {
            let mut settings = serde_json::to_value(ingress).unwrap();
            let driver = settings.as_object_mut().unwrap().remove("driver").unwrap();
            let built = sandbar_ingress::build(driver.as_str().unwrap(), settings);
            assert!(built.is_ok(), "{name}: {}\n{text}", built.err().unwrap());
        }
        for (name, sink) in table["sink"].as_table().unwrap() {
            let mut settings = serde_json::to_value(sink).unwrap();
            settings.as_object_mut().unwrap().remove("kind");
            let built = sandbar_sinks::build("kraken", settings);
            assert!(built.is_ok(), "{name}: {}\n{text}", built.err().unwrap());
        }
    }
}
