//! Where `sandbar deploy` gets a component from: a file, a URL with a digest, or an OCI registry.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use sha2::{Digest, Sha256};

use super::read_bytes;

/// What a host takes at most.
const BYTES_MAX: usize = 64 << 20;
/// A component in a registry (CNCF's "Wasm OCI artifact" guidance), and what other tools call it.
const WASM_TYPES: [&str; 2] = ["application/wasm", "application/vnd.wasm.content.layer.v1+wasm"];
/// The password of a registry, beside `--registry-user`.
const PASSWORD: &str = "SANDBAR_REGISTRY_PASSWORD";

/// How a registry is spoken to.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Registry")]
pub(crate) struct RegistryOptions {
    /// Who the registry is to know; the password is read from SANDBAR_REGISTRY_PASSWORD
    #[arg(long, value_name = "USER")]
    registry_user: Option<String>,
    /// Speak to the registry without TLS
    #[arg(long)]
    registry_insecure: bool,
}

impl RegistryOptions {
    pub(crate) fn is_given(&self) -> bool {
        self.registry_user.is_some() || self.registry_insecure
    }
}

/// The component at `from`: a path, `https://…` (with `digest`), or `oci://registry/repository[:tag][@sha256:…]`.
/// With `digest`, 64 hexadecimal digits, its SHA-256 must be that.
pub(crate) async fn component(
    from: &str,
    digest: Option<&str>,
    registry: &RegistryOptions,
) -> anyhow::Result<Vec<u8>> {
    let bytes = match from.split_once("://") {
        Some(("oci", reference)) => from_registry(reference, registry).await?,
        Some(("http" | "https", _)) => {
            ensure!(digest.is_some(), "what comes from a URL needs its digest: --digest SHA256");
            from_url(from).await?
        }
        Some((scheme, _)) => bail!("{scheme}:// is not known here: a file, https:// or oci://"),
        None => read_bytes(Path::new(from))?,
    };
    if let Some(wanted) = digest {
        let wanted = wanted.strip_prefix("sha256:").unwrap_or(wanted).to_ascii_lowercase();
        let found = hex(&Sha256::digest(&bytes));
        ensure!(found == wanted, "the digest of {from} is {found}, not {wanted}");
    }
    ensure!(bytes.starts_with(b"\0asm"), "{from} is no WebAssembly component");
    Ok(bytes)
}

async fn from_url(url: &str) -> anyhow::Result<Vec<u8>> {
    let mut answer = reqwest::get(url).await?.error_for_status()?;
    let mut bytes = Vec::new();
    while let Some(part) = answer.chunk().await.with_context(|| format!("reading {url}"))? {
        ensure!(bytes.len() + part.len() <= BYTES_MAX, "{url} has more than {BYTES_MAX} bytes");
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

async fn from_registry(reference: &str, options: &RegistryOptions) -> anyhow::Result<Vec<u8>> {
    let image: Reference = reference.parse().with_context(|| format!("oci://{reference}"))?;
    let protocol = if options.registry_insecure { ClientProtocol::Http } else { ClientProtocol::Https };
    let client = Client::new(ClientConfig { protocol, ..ClientConfig::default() });
    let auth = match &options.registry_user {
        None => RegistryAuth::Anonymous,
        Some(user) => {
            let password = std::env::var(PASSWORD).with_context(|| format!("{PASSWORD} is not set"))?;
            RegistryAuth::Basic(user.clone(), password)
        }
    };
    client
        .auth(&image, &auth, RegistryOperation::Pull)
        .await
        .with_context(|| format!("signing in at {reference}"))?;
    let manifest = client.pull_image_manifest(&image, &auth).await;
    // The client compares a digest in the reference, and those in the manifest, with what it was sent.
    let (manifest, _) = manifest.with_context(|| format!("reading the manifest of {reference}"))?;
    let layer = wasm_layer(&manifest.layers).with_context(|| format!("oci://{reference}"))?;
    let mut bytes = Vec::new();
    client.pull_blob(&image, layer, &mut bytes).await.with_context(|| format!("reading {reference}"))?;
    Ok(bytes)
}

/// The one layer that is a component.
fn wasm_layer(layers: &[OciDescriptor]) -> anyhow::Result<&OciDescriptor> {
    let is_wasm = |layer: &&OciDescriptor| WASM_TYPES.contains(&layer.media_type.as_str());
    let mut found = layers.iter().filter(is_wasm);
    match (found.next(), found.next()) {
        (Some(layer), None) => {
            let size = usize::try_from(layer.size).unwrap_or(usize::MAX);
            ensure!(size <= BYTES_MAX, "the component has {} bytes, a host takes {BYTES_MAX}", layer.size);
            Ok(layer)
        }
        (None, _) => bail!("it has no layer of type {}", WASM_TYPES[0]),
        _ => bail!("it has more than one layer of type {}", WASM_TYPES[0]),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn of_file(content: &[u8], digest: Option<&str>) -> anyhow::Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.wasm");
        std::fs::write(&path, content).unwrap();
        let registry = RegistryOptions { registry_user: None, registry_insecure: true };
        component(path.to_str().unwrap(), digest, &registry).await
    }

    #[tokio::test]
    async fn a_digest_must_be_that_of_the_bytes() {
        let digest = hex(&Sha256::digest(b"\0asm1"));
        assert!(of_file(b"\0asm1", None).await.is_ok());
        assert!(of_file(b"\0asm1", Some(&format!("sha256:{digest}"))).await.is_ok());
        assert!(of_file(b"\0asm2", Some(&digest)).await.unwrap_err().to_string().contains("the digest of"));
        assert!(of_file(b"#!/bin/sh", None).await.is_err());
    }

    #[tokio::test]
    async fn what_comes_from_elsewhere_needs_a_digest_or_a_known_place() {
        let registry = RegistryOptions { registry_user: None, registry_insecure: true };
        for (from, problem) in
            [("https://a.example/m.wasm", "needs its digest"), ("ftp://a/m.wasm", "is not known here")]
        {
            let error = component(from, None, &registry).await.unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
