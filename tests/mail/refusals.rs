//! What a handler says becomes the answer to the message; a host that stops says so.

use anyhow::{Result, ensure};
use sandbar_tests::host::guest;

use crate::{host, port, python_says};

/// Sends each text as a message and prints the answers' codes.
const SEND: &str = r#"
import smtplib, sys
client = smtplib.SMTP("127.0.0.1", int(sys.argv[1]), timeout=20)
client.ehlo("lab")
for text in sys.argv[2:]:
    assert client.mail("a@x.example")[0] == 250 and client.rcpt("b@y.example")[0] == 250
    code, said = client.data(f"Subject: t\r\n\r\n{text}".encode())
    print(code, said.decode())
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_refuses_becomes_a_permanent_answer_and_one_that_is_called_again_none() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let configuration = format!(
        "[ingress.mail]\ndriver = \"email\"\nlisten = \"127.0.0.1:0\"\npayload = \"body\"\nreply_timeout_ms = 500\n\
         [module.hostile]\nfile = \"{}\"\n\
         [route.all]\nmodule = \"hostile\"\nkey = \"none\"\nreply = true\nlimits = {{ time_ms = 3000 }}\n",
        guest("hostile").display()
    );
    let host = host(folder.path(), &configuration).await?;
    let port = port(&host, "mail").await?;
    let said = python_says(folder.path(), SEND, &[&port, "ok", "reject", "ok", "retry"]).await?;
    let said: Vec<_> = said.lines().collect();
    ensure!(said.len() == 4, "{said:?}");
    ensure!(said[0].starts_with("250 2.0.0 taken as 0") && said[2].starts_with("250"), "{said:?}");
    ensure!(said[1].starts_with("554 5.6.0") && said[1].ends_with("rejected as told"), "{said:?}");
    // It is on disk: told 451, the sender would send it a second time.
    ensure!(said[3].starts_with("250 2.0.0 taken as 0"), "{said:?}");
    Ok(())
}

/// Prints what is said when the host stops.
const WAIT: &str = r#"
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
lines = connection.makefile()
print(lines.readline().strip(), flush=True)
open("connected", "w").close()
print(lines.read().strip())
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_connected_when_the_host_stops_is_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let configuration = "[ingress.mail]\ndriver = \"email\"\nlisten = \"127.0.0.1:0\"\n";
    let host = host(folder.path(), configuration).await?;
    let port = port(&host, "mail").await?;
    let connected = folder.path().join("connected");
    let arguments = [port.as_str()];
    let waits = python_says(folder.path(), WAIT, &arguments);
    let stops = async {
        sandbar_tests::eventually("a peer is connected", 20, || async { connected.exists() }).await;
        host.terminate().await
    };
    let (said, code) = tokio::join!(waits, stops);
    let said = said?;
    ensure!(code? == Some(0), "it did not end well");
    ensure!(said.lines().last() == Some("421 4.3.2 shutting down"), "{said}");
    Ok(())
}
