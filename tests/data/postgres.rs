//! PostgreSQL, asked with psql.

use std::path::Path;

use anyhow::{Result, ensure};
use sandbar_tests::free_port;
use sandbar_tests::tool;

use crate::certificates::Certificate;
use crate::server::{Server, folder, prepare, program, unprivileged};
use crate::stage::Stage;

struct Postgres {
    folder: tempfile::TempDir,
    certificate: Certificate,
    port: u16,
}

impl Postgres {
    fn make() -> Result<Self> {
        let folder = folder()?;
        let password = folder.path().join("password");
        std::fs::write(&password, "hunter2\n")?;
        crate::server::give_away(&password)?;
        let mut initdb = unprivileged(&program("initdb"));
        initdb.args(["--username=ann", "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync", "--pwfile"]);
        initdb.arg(&password).arg("--pgdata").arg(folder.path().join("data")).current_dir(folder.path());
        prepare(initdb)?;
        let certificate = Certificate::make(folder.path(), "server")?;
        Ok(Self { folder, certificate, port: free_port()? })
    }

    async fn start(&self) -> Result<Server> {
        let mut command = unprivileged(&program("postgres"));
        let path = |path: &Path| path.display().to_string();
        command.arg("-D").arg(self.folder.path().join("data")).current_dir(self.folder.path());
        command.args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-k", ""]);
        command.args(["-c", "ssl=on", "-c", "fsync=off"]);
        command.args(["-c", &format!("ssl_cert_file={}", path(&self.certificate.file))]);
        command.args(["-c", &format!("ssl_key_file={}", path(&self.certificate.key))]);
        let server = Server::start(command, self.port, &self.folder.path().join("log")).await?;
        // It takes connections before it takes questions.
        sandbar_tests::eventually("PostgreSQL answers", 30, || async { self.ask("SELECT 1").await.is_ok() })
            .await;
        Ok(server)
    }

    async fn ask(&self, sql: &str) -> Result<String> {
        let mut psql = tokio::process::Command::new(tool::path("psql"));
        psql.args(["--no-psqlrc", "-At", "-h", "127.0.0.1", "-U", "ann", "-d", "postgres", "-c", sql]);
        psql.args(["-p", &self.port.to_string()]).env("PGPASSWORD", "hunter2");
        Ok(tool::succeeds(psql, 20).await?.trim().to_owned())
    }

    fn url(&self, host: &str) -> String {
        format!("postgres://ann:hunter2@{host}:{}/postgres", self.port)
    }
}

const TABLE: &str = r#"
create = """CREATE TABLE IF NOT EXISTS readings (id text PRIMARY KEY, time timestamptz NOT NULL, device varchar(20),
  topic text, n integer, celsius numeric(8,2) CHECK (celsius < 1000), ok boolean, attributes jsonb, payload jsonb, raw bytea)"""
statement = """INSERT INTO readings VALUES (:id, :time, :device, :topic, :n, :celsius, :ok, :attributes, :payload_json,
  :payload) ON CONFLICT DO NOTHING"""
parameters.n = { pointer = "/n", type = "integer", required = true }
parameters.celsius = { pointer = "/celsius", type = "float" }
parameters.ok = { pointer = "/ok", type = "boolean" }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_arrive_once_and_those_that_do_not_fit_are_dead_letters() -> Result<()> {
    let postgres = Postgres::make()?;
    let server = postgres.start().await?;
    let stage =
        Stage::set(&format!("kind = \"sql\"\nurl = \"{}\"\n{TABLE}", postgres.url("127.0.0.1"))).await?;
    stage.send_numbers(0..100).await?;
    for bad in [
        r#"{"n":1,"celsius":5000}"#,
        r#"{"n":99999999999}"#,
        r#"{"celsius":1}"#,
        r#"{"n":1,"note":"\u0000"}"#,
    ] {
        stage.send("boiler", bad).await?;
    }
    stage.send("a-device-with-a-name-that-does-not-fit", r#"{"n":1}"#).await?;
    stage.send("boiler", r#"{"n":-1,"ok":true,"list":[1,{"ü":null}]}"#).await?;
    stage.send_numbers(100..200).await?;
    let mut causes = stage.settle().await?;
    causes.sort();
    expect_test::expect![[r#"
        :n: the message has no value at `/n`
        the database refused the row: integer out of range
        the database refused the row: new row for relation "readings" violates check constraint "readings_celsius_check"
        the database refused the row: unsupported Unicode escape sequence
        the database refused the row: value too long for type character varying(20)"#]].assert_eq(&causes.join("\n"));
    ensure!(
        postgres.ask("SELECT count(*), count(DISTINCT id), sum(celsius) FROM readings").await?
            == "201|201|20000.00"
    );
    let seen = "SELECT device, topic, n, celsius IS NULL, ok, payload->'list'->1->>'ü' IS NULL, length(raw),
        attributes->>'http.header.x-unit', abs(extract(epoch FROM now() - time)) < 60 FROM readings WHERE n = -1";
    ensure!(
        postgres.ask(seen).await? == "boiler|plant/boiler|-1|t|t|t|41|C|t",
        "{}",
        postgres.ask(seen).await?
    );

    // The server dies and comes back, and so does the host: nothing is lost, and nothing is there twice.
    server.kill();
    stage.send_numbers(200..230).await?;
    stage.complaint().await?;
    let stage = stage.again().await?;
    stage.send_numbers(230..250).await?;
    let _server = postgres.start().await?;
    stage.settle().await?;
    ensure!(
        postgres.ask("SELECT count(*), count(DISTINCT n) FROM readings WHERE n >= 0").await? == "250|250"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_certificate_and_name_are_verified() -> Result<()> {
    let postgres = Postgres::make()?;
    let _server = postgres.start().await?;
    let other = Certificate::make(postgres.folder.path(), "other")?;
    let sink = |host: &str, ca: &Path| {
        let url = postgres.url(host);
        format!("kind = \"sql\"\nurl = \"{url}\"\ntls = true\nca_file = \"{}\"\n{TABLE}", ca.display())
    };
    for (host, ca, problem) in [
        ("localhost", &other.file, "invalid peer certificate"),
        ("127.0.0.1", &postgres.certificate.file, "certificate not valid for name"),
    ] {
        let stage = Stage::set(&sink(host, ca)).await?;
        stage.send_numbers(0..1).await?;
        let complaint = stage.complaint().await?;
        ensure!(complaint.contains(problem) && !complaint.contains("hunter2"), "{complaint}");
    }
    let stage = Stage::set(&sink("localhost", &postgres.certificate.file)).await?;
    stage.send_numbers(0..5).await?;
    ensure!(stage.settle().await?.is_empty());
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'sandbar'";
    ensure!(postgres.ask(encrypted).await? == "t");
    ensure!(postgres.ask("SELECT count(*) FROM readings").await? == "5");
    Ok(())
}
