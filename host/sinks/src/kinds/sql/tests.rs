//! With SQLite, which is the database itself; the servers are in `tests/data`.

use std::path::PathBuf;

use parking_lot::Mutex;
use sandbar_reading::DeliveryId;
use serde_json::{Value as Json, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Row};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::*;
use crate::contract::{self, Behaviour, FarEnd, deliveries, delivery};

/// A database file that behaves as it is told.
struct File {
    folder: tempfile::TempDir,
    other: Mutex<SqliteConnection>,
    behaviour: Mutex<Behaviour>,
}

impl File {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(folder.path().join("db")).create_if_missing(true);
        let other = wait(SqliteConnection::connect_with(&options)).unwrap();
        let file = Self { folder, other: Mutex::new(other), behaviour: Mutex::new(Behaviour::Take) };
        file.run("PRAGMA journal_mode = WAL; CREATE TABLE messages (id TEXT PRIMARY KEY, celsius REAL)");
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("db")
    }

    fn run(&self, sql: &str) {
        let mut other = self.other.lock();
        wait(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *other)).unwrap();
    }

    fn rows(&self, sql: &str) -> Vec<String> {
        let mut other = self.other.lock();
        let rows = wait(sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut *other)).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    fn sink(&self, more: &Json) -> Sql {
        let mut settings = self.settings();
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        contract::sink::<Self>(settings)
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    block_in_place(|| Handle::current().block_on(future))
}

impl FarEnd for File {
    type Sink = Sql;

    fn settings(&self) -> Json {
        json!({
            "url": format!("sqlite:{}", self.path().display()),
            "statement": "INSERT INTO messages (id) VALUES (:id) ON CONFLICT DO NOTHING",
        })
    }

    fn behave(&self, behaviour: Behaviour) {
        match std::mem::replace(&mut *self.behaviour.lock(), behaviour) {
            Behaviour::Take => {}
            Behaviour::FailAfter(_) => self.run("ALTER TABLE away RENAME TO messages"),
            Behaviour::Refuse(_) => self.run("DROP TRIGGER refuse"),
            Behaviour::Stall => self.run("ROLLBACK"),
        }
        match behaviour {
            Behaviour::Take => {}
            // A transaction is taken whole or not at all.
            Behaviour::FailAfter(_) => self.run("ALTER TABLE messages RENAME TO away"),
            Behaviour::Refuse(id) => self.run(&format!(
                "CREATE TRIGGER refuse BEFORE INSERT ON messages WHEN NEW.id = '{id}' \
                 BEGIN SELECT RAISE(ABORT, 'no such unit'); END"
            )),
            Behaviour::Stall => self.run("BEGIN IMMEDIATE"),
        }
    }

    fn taken(&self) -> Vec<DeliveryId> {
        let table = match *self.behaviour.lock() {
            Behaviour::FailAfter(_) => "away",
            _ => "messages",
        };
        self.rows(&format!("SELECT id FROM {table} ORDER BY rowid"))
            .iter()
            .map(|id| id.parse().unwrap())
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract_of_sinks() {
    contract::check(&File::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_part_of_a_message_can_be_a_column() {
    let file = File::new();
    let sink = file.sink(&json!({
        "create": "CREATE TABLE IF NOT EXISTS everything (line TEXT);",
        "statement": "INSERT INTO everything VALUES (:id || '|' || :reading || '|' || :route || '|' || :topic
            || '|' || :device || '|' || :time || '|' || :time_ms || '|' || :content_type || '|' || :attributes
            || '|' || hex(:payload) || '|' || :payload_text || '|' || :payload_json || '|' || :count || '|' || :qos
            || '|' || typeof(:count) || '|' || typeof(:nothing))",
        "parameters": {
            "count": { "pointer": "/count", "type": "integer" },
            "qos": { "attribute": "mqtt.qos" },
            "nothing": { "pointer": "/none", "type": "float" },
        },
    }));
    sink.deliver(&[delivery(7)], &Progress::default()).await.unwrap();
    expect_test::expect![[r#"01HF7YAT000000000000000007|01H5XXK1000000000000000007|kitchen|sensors/kitchen|k1|2023-11-14T22:13:20.007000Z|1700000000007|application/json|{"mqtt.qos":"1"}|7B22636F756E74223A377D|{"count":7}|{"count":7}|7|1|integer|null"#]].assert_eq(&file.rows("SELECT line FROM everything").join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_moved_away_is_made_anew() {
    let file = File::new();
    let path = file.folder.path().join("moved");
    let sink = file.sink(&json!({
        "url": format!("sqlite:{}", path.display()),
        "create": "CREATE TABLE IF NOT EXISTS messages (id TEXT PRIMARY KEY)",
    }));
    sink.deliver(&deliveries(0..1), &Progress::default()).await.unwrap();
    std::fs::rename(&path, file.folder.path().join("aside")).unwrap();
    sink.deliver(&deliveries(1..2), &Progress::default()).await.unwrap();
    file.run(&format!("ATTACH '{}' AS moved", path.display()));
    assert_eq!(file.rows("SELECT id FROM moved.messages"), [delivery(1).id.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_url_is_connected_to_if_it_leads_to_a_database_of_the_same_kind() {
    let (first, second) = (File::new(), File::new());
    let url = first.folder.path().join("url");
    contract::renew(&url, &format!("sqlite:{}", first.path().display()));
    let sink = first.sink(&json!({ "url": { "file": url } }));
    sink.deliver(&deliveries(0..1), &Progress::default()).await.unwrap();
    contract::renew(&url, &format!("sqlite:{}", second.path().display()));
    sink.deliver(&deliveries(1..2), &Progress::default()).await.unwrap();
    for other in ["postgres://u:p@127.0.0.1:1/d", "half of a"] {
        contract::renew(&url, other);
        sink.deliver(&deliveries(2..3), &Progress::default()).await.unwrap();
    }
    assert_eq!(first.taken(), [delivery(0).id]);
    assert_eq!(second.taken(), [1, 2].map(|number| delivery(number).id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_gives_no_row_is_refused_after_those_before_it() {
    let file = File::new();
    let sink = file.sink(&json!({
        "statement": "INSERT INTO messages (id, celsius) VALUES (:id, :celsius)",
        "parameters": { "celsius": { "pointer": "/celsius", "type": "float", "required": true } },
    }));
    let mut batch = deliveries(0..4);
    for (index, payload) in
        [r#"{"celsius":1}"#, r#"{"celsius":"2.5"}"#, r#"{"kelvin":3}"#, "{"].iter().enumerate()
    {
        batch[index].message.payload = bytes::Bytes::from_static(payload.as_bytes());
    }
    match sink.deliver(&batch, &Progress::default()).await.unwrap_err() {
        DeliveryError::Reject { rejected: 2, cause } => {
            assert_eq!(cause.to_string(), ":celsius: the message has no value at `/celsius`");
        }
        other => panic!("{other:?}"),
    }
    match sink.deliver(&batch[3..], &Progress::default()).await.unwrap_err() {
        DeliveryError::Reject { rejected: 0, cause } => {
            assert!(cause.to_string().starts_with(":celsius: the payload is no JSON: "), "{cause}");
        }
        other => panic!("{other:?}"),
    }
    let numbers = file.rows("SELECT CAST(celsius AS TEXT) FROM messages ORDER BY rowid");
    assert_eq!(numbers, ["1.0", "2.5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_row_without_a_conflict_clause_is_refused_and_the_rest_is_written() {
    let file = File::new();
    let sink = file.sink(&json!({ "statement": "INSERT INTO messages (id) VALUES (:id)" }));
    sink.deliver(&deliveries(2..3), &Progress::default()).await.unwrap();
    match sink.deliver(&deliveries(0..5), &Progress::default()).await.unwrap_err() {
        DeliveryError::Reject { rejected: 2, cause } => {
            let expected = "the database refused the row: UNIQUE constraint failed: messages.id";
            assert_eq!(cause.to_string(), expected);
        }
        other => panic!("{other:?}"),
    }
    sink.deliver(&deliveries(3..5), &Progress::default()).await.unwrap();
    assert_eq!(file.taken(), [2, 0, 1, 3, 4].map(|number| delivery(number).id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_that_is_checked_at_the_end_finds_its_row() {
    let file = File::new();
    file.run(
        "CREATE TABLE units (id TEXT PRIMARY KEY);
        CREATE TABLE of_units (id TEXT REFERENCES units DEFERRABLE INITIALLY DEFERRED);",
    );
    for number in [0, 1, 2, 3, 5] {
        file.run(&format!("INSERT INTO units VALUES ('{}')", delivery(number).id));
    }
    let sink = file.sink(&json!({ "statement": "INSERT INTO of_units VALUES (:id)" }));
    match sink.deliver(&deliveries(0..6), &Progress::default()).await.unwrap_err() {
        DeliveryError::Reject { rejected: 4, .. } => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(file.rows("SELECT id FROM of_units").len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_statement_delays_and_buries_nothing() {
    let file = File::new();
    for statement in
        ["INSERT INTO nowhere VALUES (:id)", "INSERT INTO messages (colour) VALUES (:id)", "INSERT :id"]
    {
        match file
            .sink(&json!({ "statement": statement }))
            .deliver(&deliveries(0..2), &Progress::default())
            .await
            .unwrap_err()
        {
            DeliveryError::Retry { delivered: 0, cause, .. } => {
                assert!(cause.to_string().starts_with("writing a row: "), "{cause}");
            }
            other => panic!("{other:?}"),
        }
    }
    let sink = file.sink(&json!({ "url": "sqlite:/dev/null/x.db" }));
    assert!(matches!(
        sink.deliver(&deliveries(0..2), &Progress::default()).await,
        Err(DeliveryError::Retry { delivered: 0, .. })
    ));
}

#[test]
fn settings_that_cannot_work_are_named() {
    for (more, at) in [
        (json!({ "url": "oracle://x" }), "url"),
        (json!({ "url": { "env": "SANDBAR_NOT_SET" } }), "url"),
        (json!({ "statement": "" }), "statement"),
        (json!({ "statement": "INSERT INTO t VALUES (:colour)" }), "statement"),
        (json!({ "parameters": { "a b": { "pointer": "/a" } } }), "parameters.a b"),
        (json!({ "parameters": { "id": { "pointer": "/a" } } }), "parameters.id"),
        (json!({ "parameters": { "a": { "pointer": "a" } } }), "parameters.a.pointer"),
        (json!({ "parameters": { "a": { "pointer": "/a", "attribute": "b" } } }), "parameters.a"),
        (json!({ "parameters": { "a": { "pointer": "/a", "type": "money" } } }), "parameters.a.type"),
        (json!({ "tls": true }), "tls"),
        (json!({ "ca_file": "/nowhere/ca.pem" }), "ca_file"),
        (json!({ "connect_timeout_ms": 0 }), "connect_timeout_ms"),
    ] {
        let mut settings = json!({ "url": "sqlite:/tmp/x.db", "statement": "INSERT INTO t VALUES (:id)" });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(crate::build("sql", settings).err().unwrap().setting, at, "{more}");
    }
}
