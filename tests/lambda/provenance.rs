//! Where modules come from: signatures made by openssl, a registry that others wrote, a URL with a digest.

use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use sandbar_tests::eventually;
use sandbar_tests::host::{Host, guest};
use sandbar_tests::tool;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{call, write_config};

/// A key made by openssl: its file, and its public half as a configuration has it.
async fn key(folder: &Path, name: &str) -> Result<(PathBuf, String)> {
    let file = folder.join(format!("{name}.pem"));
    let mut make = Command::new(tool::path("openssl"));
    make.args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&file);
    tool::succeeds(make, 30).await?;
    let mut public = Command::new(tool::path("openssl"));
    public.args(["pkey", "-pubout", "-in"]).arg(&file);
    let pem = tool::succeeds(public, 30).await?;
    let line = pem.lines().nth(1).context("no key in the PEM")?.to_owned();
    Ok((file, line))
}

async fn sign(key: &Path, file: &Path) -> Result<PathBuf> {
    let signature = file.with_extension("signature");
    let mut sign = Command::new(tool::path("openssl"));
    sign.args(["pkeyutl", "-sign", "-rawin", "-inkey"])
        .arg(key)
        .arg("-in")
        .arg(file)
        .arg("-out")
        .arg(&signature);
    tool::succeeds(sign, 30).await?;
    Ok(signature)
}

async fn deploy(host: &Host, arguments: &[&str]) -> Result<tool::Said> {
    tool::run(host.cli(&[&["deploy"], arguments].concat()), 60).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_a_trusted_key_has_signed_is_taken() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (ours, our_key) = key(folder.path(), "ours").await?;
    let (other, other_key) = key(folder.path(), "other").await?;
    let trust = |keys: &[&str]| format!("[trust]\nkeys = {}\n", json!(keys));
    let host = crate::host(folder.path(), &trust(&[&our_key])).await?;
    let wasm = folder.path().join("m.wasm");
    std::fs::copy(guest("counter"), &wasm)?;
    let file = wasm.to_str().context("a path")?;

    let unsigned = deploy(&host, &["m", file]).await?;
    ensure!(unsigned.code == Some(1) && unsigned.stderr.contains("(untrusted)"), "{unsigned:?}");
    let wrong = sign(&other, &wasm).await?;
    let wrong = deploy(&host, &["m", file, "--signature", wrong.to_str().context("a path")?]).await?;
    ensure!(wrong.code == Some(1) && wrong.stderr.contains("of no key that this host trusts"), "{wrong:?}");
    let signature = sign(&ours, &wasm).await?;
    let signature = signature.to_str().context("a path")?;
    let signed = deploy(&host, &["m", file, "--signature", signature]).await?;
    ensure!(signed.code == Some(0), "{signed:?}");
    std::fs::copy(signature, folder.path().join("m.wasm.sig"))?;
    let beside = deploy(&host, &["beside", file]).await?;
    ensure!(beside.code == Some(0), "the signature lies beside it: {beside:?}");
    let hostile = guest("hostile").display().to_string();
    let swapped = deploy(&host, &["m", &hostile, "--signature", signature]).await?;
    ensure!(swapped.code == Some(1), "a signature of other bytes: {swapped:?}");
    let second = folder.path().join("second.wasm");
    std::fs::copy(&hostile, &second)?;
    let second_signature = sign(&ours, &second).await?;
    let (second, second_signature) = (second.to_str().context("a path")?, second_signature.to_str());
    let arguments = ["m", second, "--signature", second_signature.context("a path")?, "--no-activate"];
    let signed = deploy(&host, &arguments).await?;
    ensure!(signed.code == Some(0), "{signed:?}");
    crate::done(&host, Method::PUT, "/v1/routes/r", json!({ "module": "m", "topic": ["in/#"] })).await?;

    crate::done(&host, Method::PUT, "/v1/modules/m/candidate", json!({ "version": 2, "mode": "shadow" }))
        .await?;

    // The key is revoked: what it signed is taken no more, not activated again, and on trial no more; what runs runs on.
    write_config(folder.path(), &trust(&[&other_key]))?;
    crate::done(&host, Method::POST, "/v1/config/reload", Value::Null).await?;
    let revoked = deploy(&host, &["n", file, "--signature", signature]).await?;
    ensure!(revoked.code == Some(1) && revoked.stderr.contains("(untrusted)"), "{revoked:?}");
    let (status, problem) =
        call(&host, Method::POST, "/v1/modules/m/activate", json!({ "version": 1 })).await?;
    ensure!(status == 403 && problem["code"] == "untrusted", "{status} {problem}");
    let module = host.get("/v1/modules/m").await?;
    ensure!(module["active"] == 1 && module["candidate"].is_null(), "{module}");
    ensure!(module["last_trial"]["version"] == 2, "{module}");
    // Nor is it called in any other way.
    let reading = json!({ "topic": "in/a", "payload": "{}" });
    let since = "2020-01-01T00:00:00Z";
    for (path, asked) in [
        ("activate", json!({ "version": 2 })),
        ("candidate", json!({ "version": 2, "mode": "shadow" })),
        ("candidate", json!({ "version": 2, "mode": "canary" })),
        ("invoke", json!({ "version": 2, "reading": reading })),
    ] {
        let method = if path == "candidate" { Method::PUT } else { Method::POST };
        let (status, problem) = call(&host, method, &format!("/v1/modules/m/{path}"), asked).await?;
        ensure!(status == 403 && problem["code"] == "untrusted", "{path}: {status} {problem}");
    }
    for (path, asked) in [
        ("/v1/replays", json!({ "route": "r", "version": 2, "since": since })),
        ("/v1/try?route=r&version=2", Value::Null),
    ] {
        let (status, problem) = call(&host, Method::POST, path, asked).await?;
        ensure!(status == 403 && problem["code"] == "untrusted", "{path}: {status} {problem}");
    }
    let runs_on = json!({ "route": "r", "version": 1, "since": since });
    crate::done(&host, Method::POST, "/v1/replays", runs_on).await?;
    crate::done(&host, Method::POST, "/v1/modules/m/invoke", json!({ "reading": reading })).await?;
    Ok(())
}

/// Debian's registry, on loopback.
struct Registry {
    child: Child,
    address: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Registry {
    async fn start(folder: &Path) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            folder.join("registry").display()
        );
        let file = folder.join("registry.yml");
        std::fs::write(&file, config)?;
        let child = Process::new(tool::path("docker-registry"))
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting docker-registry")?;
        let registry = Self { child, address };
        let url = format!("http://{}/v2/", registry.address);
        eventually("the registry answers", 20, || async {
            reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        Ok(registry)
    }

    /// Uploads a blob by the distribution protocol; its descriptor.
    async fn put_blob(&self, http: &reqwest::Client, bytes: Vec<u8>, media_type: &str) -> Result<Value> {
        let begun =
            http.post(format!("http://{}/v2/team/handler/blobs/uploads/", self.address)).send().await?;
        let place = begun.headers().get("location").context("no location")?.to_str()?.to_owned();
        let (size, digest) = (bytes.len(), sha256(&bytes).await?);
        let separator = if place.contains('?') { '&' } else { '?' };
        let put = http.put(format!("{place}{separator}digest={digest}")).body(bytes).send().await?;
        ensure!(put.status() == 201, "{}", put.status());
        Ok(json!({ "mediaType": media_type, "digest": digest, "size": size }))
    }

    /// Puts a component under `tag`; the manifest's digest.
    async fn put(&self, http: &reqwest::Client, tag: &str, wasm: Vec<u8>) -> Result<String> {
        const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
        let config = self.put_blob(http, b"{}".to_vec(), "application/vnd.wasm.config.v0+json").await?;
        let layer = self.put_blob(http, wasm, "application/wasm").await?;
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
        let url = format!("http://{}/v2/team/handler/manifests/{tag}", self.address);
        let put = http.put(url).header("content-type", MANIFEST).body(manifest.to_string()).send().await?;
        ensure!(put.status() == 201, "{}", put.status());
        Ok(put.headers().get("docker-content-digest").context("no digest")?.to_str()?.to_owned())
    }
}

/// `sha256:…`, in the words of another program.
async fn sha256(bytes: &[u8]) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bytes");
    std::fs::write(&file, bytes)?;
    let mut sum = Command::new(tool::path("sha256sum"));
    sum.arg(&file);
    let said = tool::succeeds(sum, 30).await?;
    Ok(format!("sha256:{}", said.split_whitespace().next().context("no digest")?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modules_come_from_a_registry_and_from_a_url_with_a_digest() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = crate::host(folder.path(), "").await?;
    let registry = Registry::start(folder.path()).await?;
    let wasm = std::fs::read(guest("counter"))?;
    let digest = registry.put(&host.http, "v1", wasm.clone()).await?;
    let image = format!("oci://{}/team/handler", registry.address);
    let from = |suffix: &str| format!("{image}{suffix}");
    let deployed = deploy(&host, &["m", &from(":v1"), "--registry-insecure"]).await?;
    ensure!(deployed.code == Some(0), "{deployed:?}");
    let module = host.get("/v1/modules/m").await?;
    let own = sha256(&wasm).await?;
    ensure!(own.ends_with(module["versions"][0]["digest"].as_str().context("no digest")?), "{module}");
    let pinned = deploy(&host, &["p", &from(&format!("@{digest}")), "--registry-insecure"]).await?;
    ensure!(pinned.code == Some(0), "{pinned:?}");
    let missing = deploy(&host, &["x", &from(":v2"), "--registry-insecure"]).await?;
    ensure!(missing.code == Some(1), "{missing:?}");
    let zeros = "0".repeat(64);
    let wrong = deploy(&host, &["x", &from(":v1"), "--registry-insecure", "--digest", &zeros]).await?;
    ensure!(wrong.code == Some(1) && wrong.stderr.contains("the digest of"), "{wrong:?}");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/m.wasm", listener.local_addr()?);
    let app = axum::Router::new().fallback(move || async move { wasm.clone() });
    tokio::spawn(async move { axum::serve(listener, app).await });
    let without = deploy(&host, &["u", &url]).await?;
    ensure!(without.code == Some(1) && without.stderr.contains("--digest"), "{without:?}");
    let with = deploy(&host, &["u", &url, "--digest", &own]).await?;
    ensure!(with.code == Some(0), "{with:?}");
    Ok(())
}
