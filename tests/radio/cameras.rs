//! The driver `camera`, with ffmpeg's stream and with web servers: Python's, and lighttpd for its passwords and its TLS.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sandbar_tests::host::Host;
use sandbar_tests::mutate::mutate;
use sandbar_tests::receiver::Receiver;
use sandbar_tests::seed::{Random, seed};
use sandbar_tests::sender::all_is_done;
use sandbar_tests::{eventually, tool};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::certificates::self_signed;
use crate::{check_log, last_error, wait_for};

async fn host(folder: &Path, configuration: &str) -> Result<Host> {
    let text = format!("[api]\nlisten = \"127.0.0.1:0\"\n{configuration}");
    std::fs::write(folder.join("sandbar.toml"), text)?;
    Host::start(folder).await
}

/// A free one: nothing else of this machine takes it that soon.
async fn port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

fn start(command: &mut Command) -> Result<Child> {
    let shown = format!("{:?}", command.as_std().get_program());
    let silent = command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    silent
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {shown}"))
}

/// ffmpeg's test picture as a stream, for one client.
fn ffmpeg(port: u16) -> Result<Child> {
    let mut command = Command::new(tool::path("ffmpeg"));
    command.args(
        "-v error -re -f lavfi -i testsrc=size=320x240:rate=10 -c:v mjpeg -f mpjpeg -listen 1".split(' '),
    );
    command.args(["-content_type", "multipart/x-mixed-replace;boundary=ffmpeg"]);
    start(command.arg(format!("http://127.0.0.1:{port}/cam.mjpg")))
}

async fn ffmpeg_picture(folder: &Path, name: &str) -> Result<()> {
    let mut command = Command::new(tool::path("ffmpeg"));
    command
        .args("-v error -y -f lavfi -i testsrc=size=160x120:rate=1 -frames:v 1".split(' '))
        .arg(folder.join(name));
    tool::succeeds(command, 60).await.map(drop)
}

async fn readings(host: &Host) -> Result<Vec<Value>> {
    host.all("/v1/readings?ingress=eye").await
}

async fn wait_for_pictures(host: &Host, count: usize) -> Result<Vec<Value>> {
    for _ in 0..400 {
        let readings = readings(host).await?;
        if readings.len() >= count {
            return Ok(readings);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("no pictures: {}\n{}", last_error(host, "eye").await?, host.stderr())
}

/// What ffmpeg says of a reading's payload: `mjpeg,320,240`.
async fn examined(folder: &Path, reading: &Value) -> Result<String> {
    let file = folder.join("picture.jpg");
    std::fs::write(&file, STANDARD.decode(reading["payload_base64"].as_str().context("no bytes")?)?)?;
    let mut decode = Command::new(tool::path("ffmpeg"));
    decode.args(["-v", "error", "-xerror", "-i"]).arg(&file).args(["-f", "null", "-"]);
    tool::succeeds(decode, 60).await?;
    let mut probe = Command::new(tool::path("ffprobe"));
    probe.args("-v error -show_entries stream=codec_name,width,height -of csv=p=0".split(' ')).arg(&file);
    Ok(tool::succeeds(probe, 60).await?.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffmpegs_stream_is_taken_from_and_comes_back() -> Result<()> {
    let (folder, port) = (tempfile::tempdir()?, port().await?);
    let mut stream = ffmpeg(port)?;
    let configuration = format!(
        "[ingress.eye]\ndriver = \"camera\"\nurl = \"http://127.0.0.1:{port}/cam.mjpg\"\ninterval_ms = 200\n\
         device = \"yard\"\ntimeout_ms = 2000\n"
    );
    let host = host(folder.path(), &configuration).await?;
    let readings = wait_for_pictures(&host, 3).await?;
    ensure!(
        readings[0]["content_type"] == "image/jpeg" && readings[0]["device"] == "yard",
        "{}",
        readings[0]
    );
    let attributes = readings[0]["attributes"].to_string();
    ensure!(attributes.contains("320") && attributes.contains("240"), "{attributes}");
    let examined = examined(folder.path(), &readings[0]).await?;
    ensure!(examined == "mjpeg,320,240", "{examined}");
    // Pulled out, and stopped without a word: a time-out of our own.
    stream.kill().await?;
    wait_for(&host, "eye", "backing-off").await?;
    let before = self::readings(&host).await?.len();
    let stream = ffmpeg(port)?;
    wait_for_pictures(&host, before + 2).await?;
    let id = stream.id().context("it ended")?.to_string();
    ensure!(std::process::Command::new("kill").args(["-STOP", &id]).status()?.success());
    let is_missed =
        || async { last_error(&host, "eye").await.is_ok_and(|error| error.contains("no picture within")) };
    eventually("it is missed", 30, is_missed).await;
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_is_asked_for_on_command() -> Result<()> {
    let (folder, port) = (tempfile::tempdir()?, port().await?);
    ffmpeg_picture(folder.path(), "snap.jpg").await?;
    let mut server = Command::new(tool::path("python3"));
    server.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]).current_dir(folder.path());
    let _server = start(&mut server)?;
    let configuration = format!(
        "[ingress.eye]\ndriver = \"camera\"\nurl = \"http://127.0.0.1:{port}/snap.jpg\"\ndevice = \"gate\"\n\
         [ingress.hook]\ndriver = \"webhook\"\nlisten = \"127.0.0.1:0\"\npaths = [{{ path = \"/capture\" }}]\n\
         [sink.shutter]\nkind = \"device\"\ndevice = \"gate\"\nname = \"capture\"\n\
         [sink.shutter.offering]\nfirst_wait_ms = 20\nlongest_wait_ms = 200\n\
         [route.shutter]\ningress = [\"hook\"]\nsinks = [\"shutter\"]\n"
    );
    let host = host(folder.path(), &configuration).await?;
    wait_for(&host, "eye", "running").await?;
    ensure!(readings(&host).await?.is_empty(), "nobody asked for one");
    let hook = format!("{}/capture", host.ingress("hook").await?);
    let sent = host.http.post(&hook).header("content-type", "text/plain").body("now").send().await?;
    ensure!(sent.status().is_success(), "{sent:?}");
    let readings = wait_for_pictures(&host, 1).await?;
    ensure!(readings[0]["attributes"].to_string().contains("command"), "{}", readings[0]);
    ensure!(examined(folder.path(), &readings[0]).await? == "mjpeg,160,120");
    eventually("it is carried out", 20, || async {
        host.all("/v1/outbox").await.is_ok_and(|all| all.is_empty())
    })
    .await;
    check_log(&host)
}

/// lighttpd with TLS, and a password for all that it has.
async fn lighttpd(folder: &Path, method: &str) -> Result<(u16, Child)> {
    let port = port().await?;
    let shown = folder.display();
    let made = self_signed(folder).await?;
    let (certificate, key) = (made.certificate.display(), made.key.display());
    std::fs::write(folder.join("users"), "eye:hunter2\n")?;
    let configuration = format!(
        "server.modules = (\"mod_openssl\", \"mod_auth\", \"mod_authn_file\")\n\
         server.document-root = \"{shown}\"\nserver.bind = \"127.0.0.1\"\nserver.port = {port}\n\
         mimetype.assign = (\".jpg\" => \"image/jpeg\")\n\
         ssl.engine = \"enable\"\nssl.pemfile = \"{certificate}\"\nssl.privkey = \"{key}\"\n\
         auth.backend = \"plain\"\nauth.backend.plain.userfile = \"{shown}/users\"\n\
         auth.require = (\"/\" => (\"method\" => \"{method}\", \"realm\" => \"camera\", \"require\" => \"user=eye\"))\n"
    );
    let file = folder.join("lighttpd.conf");
    std::fs::write(&file, configuration)?;
    let mut command = Command::new("/usr/sbin/lighttpd");
    let server = start(command.arg("-D").arg("-f").arg(file))?;
    eventually("lighttpd listens", 20, || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await;
    Ok((port, server))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lighttpd_is_shown_the_password_over_tls() -> Result<()> {
    for method in ["basic", "digest"] {
        let folder = tempfile::tempdir()?;
        ffmpeg_picture(folder.path(), "snap.jpg").await?;
        let (port, _server) = lighttpd(folder.path(), method).await?;
        let configuration = |password: &str| {
            format!(
                "[ingress.eye]\ndriver = \"camera\"\nurl = \"https://localhost:{port}/snap.jpg?a=b\"\n\
                 user = \"eye\"\npassword = \"{password}\"\ninterval_ms = 100\n\
                 tls = {{ ca_file = \"{}/cert.pem\" }}\n",
                folder.path().display()
            )
        };
        let host = host(folder.path(), &configuration("hunter2")).await?;
        let readings = wait_for_pictures(&host, 5).await?;
        ensure!(examined(folder.path(), &readings[0]).await? == "mjpeg,160,120", "{method}");
        check_log(&host)?;
        drop(host);
        let other = folder.path().join("other");
        std::fs::create_dir(&other)?;
        let host = self::host(&other, &configuration("wrong")).await?;
        let is_refused = || async {
            last_error(&host, "eye").await.is_ok_and(|e| e.contains("refuses user and password"))
        };
        eventually("the wrong password is refused", 20, is_refused).await;
        ensure!(!host.stderr().contains("wrong"), "{}", host.stderr());
    }
    Ok(())
}

/// What a camera could answer, right and whole.
fn stream(pictures: &[Vec<u8>]) -> Vec<u8> {
    let mut answer =
        b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=cam\r\n\r\n".to_vec();
    answer.extend(pictures.iter().flat_map(|picture| part(picture)));
    answer
}

fn part(picture: &[u8]) -> Vec<u8> {
    let head = format!("--cam\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", picture.len());
    [head.as_bytes(), picture, b"\r\n"].concat()
}

/// Serves one connection.
async fn serve(listener: &TcpListener, answer: &[u8]) -> Result<tokio::net::TcpStream> {
    let accepted = tokio::time::timeout(Duration::from_secs(40), listener.accept()).await;
    let (mut socket, _) = accepted.context("the driver does not come back")??;
    let mut request = [0; 2000];
    drop(socket.read(&mut request).await);
    // Whoever has had enough hangs up.
    drop(socket.write_all(answer).await);
    Ok(socket)
}

/// Each wrong in its own way; the supervisor waits between the links, so they are many in few.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_from_a_camera_leaves_the_host_up() -> Result<()> {
    const PICTURES: usize = 1000;
    let folder = tempfile::tempdir()?;
    ffmpeg_picture(folder.path(), "snap.jpg").await?;
    let picture = std::fs::read(folder.path().join("snap.jpg"))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/cam.mjpg", listener.local_addr()?);
    let configuration =
        format!("[ingress.eye]\ndriver = \"camera\"\nurl = \"{url}\"\ninterval_ms = 1\ntimeout_ms = 2000\n");
    let mut host = host(folder.path(), &configuration).await?;
    let mut random = Random::new(seed());
    let pieces: [&[u8]; 6] =
        [b"\xff\xd8", b"\xff\xd9", b"\xff\xda", b"\xff\xff\xff\xff", b"--cam\r\n", b"\xff\xc0\0\0"];
    let wrong: Vec<Vec<u8>> = (0..PICTURES).map(|_| mutate(&mut random, &picture, &pieces)).collect();
    // Whole parts of wrong pictures, then a right one: what is passed over is in nobody's way.
    drop(serve(&listener, &stream(&[&wrong[..], std::slice::from_ref(&picture)].concat())).await?);
    let pieces: [&[u8]; 5] = [b"\r\n", b"--cam", b"--cam--", b"Content-Length: ", b"HTTP/1.1 200 OK\r\n"];
    for _ in 0..4 {
        let answer = mutate(&mut random, &stream(&wrong[..3]), &pieces);
        drop(serve(&listener, &answer).await?);
    }
    // Half a picture is none, whoever sent it.
    let before = readings(&host).await?.len();
    let mut half = stream(std::slice::from_ref(&picture));
    half.truncate(half.len() - picture.len() / 2);
    drop(serve(&listener, &half).await?);
    let mut socket = serve(&listener, &stream(&[])).await?;
    for _ in 0..500 {
        socket.write_all(&part(&picture)).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
        if readings(&host).await?.len() > before {
            break;
        }
    }
    wait_for_pictures(&host, before + 1).await?;
    for reading in readings(&host).await? {
        let bytes = STANDARD.decode(reading["payload_base64"].as_str().context("no bytes")?)?;
        ensure!(bytes.starts_with(b"\xff\xd8") && bytes.ends_with(b"\xff\xd9"), "{reading}");
    }
    ensure!(host.is_running(), "{}", host.stderr());
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_that_were_taken_before_a_kill_are_delivered() -> Result<()> {
    let (folder, receiver) = (tempfile::tempdir()?, Receiver::start().await?);
    ffmpeg_picture(folder.path(), "snap.jpg").await?;
    let port = port().await?;
    let mut server = Command::new(tool::path("python3"));
    server.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]).current_dir(folder.path());
    let _server = start(&mut server)?;
    let configuration = format!(
        "[ingress.eye]\ndriver = \"camera\"\nurl = \"http://127.0.0.1:{port}/snap.jpg\"\ninterval_ms = 20\n\
         [sink.out]\nkind = \"http\"\nurl = \"{}\"\nbody = \"json\"\n\
         [sink.out.offering]\nfirst_wait_ms = 5\nlongest_wait_ms = 50\n\
         [route.all]\ningress = [\"eye\"]\nsinks = [\"out\"]\n",
        receiver.url()
    );
    let mut taken = 0;
    for kill in 0..3 {
        receiver.set_failing(kill % 2 == 0);
        let host = host(folder.path(), &configuration).await?;
        taken = wait_for_pictures(&host, taken + 5).await?.len();
        host.kill();
    }
    receiver.set_failing(false);
    let quiet = configuration.replace("interval_ms = 20\n", "");
    let host = host(folder.path(), &quiet).await?;
    let journal = readings(&host).await?;
    ensure!(journal.len() >= taken, "{} of {taken} are there", journal.len());
    all_is_done(&host, 30).await;
    let delivered: std::collections::BTreeSet<String> = receiver
        .taken()
        .iter()
        .filter_map(|taken| taken.body["reading"].as_str().map(str::to_owned))
        .collect();
    let ids = journal.iter().filter_map(|reading| reading["id"].as_str());
    let missing: Vec<_> = ids.filter(|id| !delivered.contains(*id)).collect();
    ensure!(missing.is_empty(), "{missing:?} are lost");
    check_log(&host)
}
