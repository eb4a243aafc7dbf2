//! A certificate authority of the test's own, and what it signs, by `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

pub(crate) struct Certificates {
    pub(crate) ca: PathBuf,
    /// Of `localhost` and 127.0.0.1: certificate and key.
    pub(crate) server: (PathBuf, PathBuf),
    /// Of the common name `boiler`.
    pub(crate) client: (PathBuf, PathBuf),
}

impl Certificates {
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        let ca = folder.join("ca.pem");
        let ca_key = folder.join("ca.key");
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test authority",
            "-keyout",
            path(&ca_key),
            "-out",
            path(&ca),
        ])?;
        let signed = |name: &str, extensions: &str| -> Result<(PathBuf, PathBuf)> {
            let certificate = folder.join(format!("{name}.pem"));
            let (key, request) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.csr")));
            let extension_file = folder.join(format!("{name}.ext"));
            std::fs::write(&extension_file, extensions)?;
            openssl(&[
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-subj",
                &format!("/CN={name}"),
                "-keyout",
                path(&key),
                "-out",
                path(&request),
            ])?;
            openssl(&[
                "x509",
                "-req",
                "-in",
                path(&request),
                "-CA",
                path(&ca),
                "-CAkey",
                path(&ca_key),
                "-CAcreateserial",
                "-days",
                "2",
                "-extfile",
                path(&extension_file),
                "-out",
                path(&certificate),
            ])?;
            Ok((certificate, key))
        };
        Ok(Self {
            server: signed(
                "localhost",
                "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n",
            )?,
            client: signed("boiler", "extendedKeyUsage=clientAuth\n")?,
            ca,
        })
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a temporary folder's name is text")
}

fn openssl(arguments: &[&str]) -> Result<()> {
    let output = Command::new(sandbar_tests::tool::path("openssl")).args(arguments).output()?;
    ensure!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
