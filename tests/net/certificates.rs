//! Certificates as openssl makes them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use sandbar_tests::tool;

pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// One for `localhost` that signs itself.
pub(crate) async fn self_signed(folder: &Path) -> Result<Certificate> {
    let made = Certificate { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    let mut openssl = tokio::process::Command::new(tool::path("openssl"));
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]);
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-keyout").arg(&made.key).arg("-out").arg(&made.certificate);
    tool::succeeds(openssl, 20).await?;
    Ok(made)
}
