//! Certificates for servers on the loopback address.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::server::give_away;

/// One that signs itself, for `localhost`.
pub(crate) struct Certificate {
    pub(crate) file: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificate {
    pub(crate) fn make(folder: &Path, name: &str) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let certificate =
            Self { file: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
        std::fs::write(&certificate.file, made.cert.pem())?;
        std::fs::write(&certificate.key, made.signing_key.serialize_pem())?;
        std::fs::set_permissions(&certificate.key, std::fs::Permissions::from_mode(0o600))?;
        for file in [&certificate.file, &certificate.key] {
            give_away(file)?;
        }
        Ok(certificate)
    }
}
