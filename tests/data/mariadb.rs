//! MariaDB, asked with its own client.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use sandbar_tests::free_port;
use sandbar_tests::tool;

use crate::certificates::Certificate;
use crate::server::{Server, folder, prepare, program, unprivileged};
use crate::stage::Stage;

struct MariaDb {
    folder: tempfile::TempDir,
    certificate: Certificate,
    port: u16,
}

impl MariaDb {
    async fn make() -> Result<(Self, Server)> {
        let folder = folder()?;
        let data = folder.path().join("data");
        let mut install = unprivileged(&program("mariadb-install-db"));
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.arg(format!("--datadir={}", data.display())).current_dir(folder.path());
        // One that starts removes the temporary tables that it finds, also those of another.
        install.env("TMPDIR", folder.path());
        prepare(install)?;
        let certificate = Certificate::make(folder.path(), "server")?;
        let mariadb = Self { folder, certificate, port: free_port()? };
        let server = mariadb.start().await?;
        mariadb.ask("CREATE DATABASE plant; CREATE USER ann@localhost IDENTIFIED BY 'hunter2'; GRANT ALL ON plant.* TO ann@localhost").await?;
        Ok((mariadb, server))
    }

    async fn start(&self) -> Result<Server> {
        let mut command: Command = unprivileged(&program("mariadbd"));
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        command.args(["--no-defaults", "--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=2"]);
        command.args([format!("--datadir={}", file("data")), format!("--socket={}", file("socket"))]);
        command.args([format!("--port={}", self.port), format!("--pid-file={}", file("pid"))]);
        command.arg(format!("--ssl-cert={}", self.certificate.file.display()));
        command.arg(format!("--ssl-key={}", self.certificate.key.display())).current_dir(self.folder.path());
        command.env("TMPDIR", self.folder.path());
        Server::start(command, self.port, &self.folder.path().join("log")).await
    }

    async fn ask(&self, sql: &str) -> Result<String> {
        let mut client = tokio::process::Command::new(tool::path("mariadb"));
        client.args([
            "--no-defaults",
            "--default-character-set=utf8mb4",
            "--batch",
            "--skip-column-names",
            "--user=root",
            "--execute",
            sql,
        ]);
        client.arg(format!("--socket={}", self.folder.path().join("socket").display()));
        Ok(tool::succeeds(client, 20).await?.trim().replace('\t', "|"))
    }

    fn url(&self, host: &str) -> String {
        format!("mysql://ann:hunter2@{host}:{}/plant", self.port)
    }
}

const TABLE: &str = r#"
create = """CREATE TABLE IF NOT EXISTS readings (id char(26) PRIMARY KEY, time datetime(6) NOT NULL, device varchar(20),
  topic text, n integer NOT NULL, celsius decimal(8,2), ok boolean, attributes json, payload json, raw longblob,
  CHECK (celsius < 1000))"""
statement = """INSERT INTO readings VALUES (:id, :time, :device, :topic, :n, :celsius, :ok, :attributes, :payload_json,
  :payload) ON DUPLICATE KEY UPDATE id = id"""
parameters.n = { pointer = "/n", type = "integer" }
parameters.celsius = { pointer = "/celsius", type = "float" }
parameters.ok = { pointer = "/ok", type = "boolean" }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_arrive_once_and_those_that_do_not_fit_are_dead_letters() -> Result<()> {
    let (mariadb, server) = MariaDb::make().await?;
    let stage =
        Stage::set(&format!("kind = \"sql\"\nurl = \"{}\"\n{TABLE}", mariadb.url("127.0.0.1"))).await?;
    stage.send_numbers(0..100).await?;
    for bad in [r#"{"n":1,"celsius":5000}"#, r#"{"n":99999999999}"#, r#"{"celsius":1}"#] {
        stage.send("boiler", bad).await?;
    }
    stage.send("a-device-with-a-name-that-does-not-fit", r#"{"n":1}"#).await?;
    stage.send("boiler", r#"{"n":-1,"ok":true,"list":[1,{"ü":"😀"}]}"#).await?;
    stage.send_numbers(100..200).await?;
    let mut causes = stage.settle().await?;
    causes.sort();
    expect_test::expect![[r#"
        the database refused the row: CONSTRAINT `CONSTRAINT_1` failed for `plant`.`readings`
        the database refused the row: Column 'n' cannot be null
        the database refused the row: Data too long for column 'device' at row 1
        the database refused the row: Out of range value for column 'n' at row 1"#]]
    .assert_eq(&causes.join("\n"));
    let sums = mariadb.ask("SELECT count(*), count(DISTINCT id), sum(celsius) FROM plant.readings").await?;
    ensure!(sums == "201|201|20000.00", "{sums}");
    let seen = "SELECT device, topic, n, celsius IS NULL, ok, json_value(payload, '$.list[1].\"ü\"'), length(raw),
        json_value(attributes, '$.\"http.header.x-unit\"'), abs(timestampdiff(SECOND, utc_timestamp(), time)) < 60
        FROM plant.readings WHERE n = -1";
    let seen = mariadb.ask(seen).await?;
    ensure!(seen == "boiler|plant/boiler|-1|1|1|😀|43|C|1", "{seen}");

    server.kill();
    stage.send_numbers(200..230).await?;
    stage.complaint().await?;
    let stage = stage.again().await?;
    stage.send_numbers(230..250).await?;
    let _server = mariadb.start().await?;
    stage.settle().await?;
    let counts = mariadb.ask("SELECT count(*), count(DISTINCT n) FROM plant.readings WHERE n >= 0").await?;
    ensure!(counts == "250|250", "{counts}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_certificate_and_name_are_verified() -> Result<()> {
    let (mariadb, _server) = MariaDb::make().await?;
    let other = Certificate::make(mariadb.folder.path(), "other")?;
    let sink = |host: &str, ca: &Path| {
        let url = mariadb.url(host);
        format!("kind = \"sql\"\nurl = \"{url}\"\ntls = true\nca_file = \"{}\"\n{TABLE}", ca.display())
    };
    for (host, ca, problem) in [
        ("localhost", &other.file, "invalid peer certificate"),
        ("127.0.0.1", &mariadb.certificate.file, "certificate not valid for name"),
    ] {
        let stage = Stage::set(&sink(host, ca)).await?;
        stage.send_numbers(0..1).await?;
        let complaint = stage.complaint().await?;
        ensure!(complaint.contains(problem) && !complaint.contains("hunter2"), "{complaint}");
    }
    mariadb.ask("ALTER USER ann@localhost REQUIRE SSL").await?;
    let stage = Stage::set(&sink("localhost", &mariadb.certificate.file)).await?;
    stage.send_numbers(0..5).await?;
    ensure!(stage.settle().await?.is_empty());
    ensure!(mariadb.ask("SELECT count(*) FROM plant.readings").await? == "5");
    Ok(())
}
