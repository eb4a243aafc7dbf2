//! The API against its own description: schemathesis makes requests from the OpenAPI document.

use anyhow::{Result, ensure};
use sandbar_tests::host::guest;
use sandbar_tests::seed::seed;
use sandbar_tests::sender::Sender;
use sandbar_tests::tool;

/// How it is to write what it does not know.
const HOOKS: &str = r#"
import schemathesis

@schemathesis.serializer("application/wasm")
def wasm(context, value):
    return value if isinstance(value, bytes) else str(value).encode()
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_does_what_its_document_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let counter = guest("counter");
    let configuration = format!(
        r#"
[ingress.web]
driver = "webhook"
listen = "127.0.0.1:0"
paths = [{{ path = "/{{*topic}}", topic = "{{topic}}" }}]
[module.counter]
file = "{counter}"
[sink.out]
kind = "log"
[route.count]
topic = "count/#"
module = "counter"
sinks = ["out"]
"#,
        counter = counter.display()
    );
    let mut host = crate::host(folder.path(), &configuration).await?;
    let mut sender = Sender::new(&host).await?;
    sender.send_many("/count/a", 5).await?;

    std::fs::write(folder.path().join("hooks.py"), HOOKS)?;
    let mut schemathesis = tokio::process::Command::new(tool::python_peer("st"));
    schemathesis
        .current_dir(folder.path())
        .env("NO_PROXY", "*")
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .args(["run", &format!("{}/openapi.json", host.api)]);
    schemathesis.args(["--header", &format!("Authorization: Bearer {}", host.token())]);
    schemathesis.args(["--checks", "not_a_server_error,status_code_conformance,response_schema_conformance"]);
    // A tail has no end.
    schemathesis.args(["--exclude-path-regex", "/tail(/|$)", "--phases", "examples,coverage,fuzzing"]);
    schemathesis.args(["--max-examples", "8", "--request-timeout", "20", "--suppress-health-check", "all"]);
    schemathesis.args(["--seed", &seed().to_string(), "--no-color"]);
    let said = tool::run(schemathesis, 400).await?;
    ensure!(said.code == Some(0), "{}\n{}", said.stdout, said.stderr);

    ensure!(host.is_running(), "{}", host.stderr());
    sender.send_many("/count/a", 5).await?;
    sender.check_journal(&host).await?;
    crate::check_log(&host)
}
