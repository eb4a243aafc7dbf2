//! The API's token: what is configured, or one that is made at the first start.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Its name in the data directory.
pub const TOKEN_FILE: &str = "token";

/// The token in `data_dir`, made of `random` if there is none yet. Only its owner may read the file.
pub(crate) fn read_or_make(data_dir: &Path, random: [u8; 32]) -> io::Result<String> {
    let path = data_dir.join(TOKEN_FILE);
    match fs::read_to_string(&path) {
        Ok(token) if !token.trim().is_empty() => return Ok(token.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let token = URL_SAFE_NO_PAD.encode(random);
    // Whole or not at all: half a token would be easier to guess.
    let unfinished = data_dir.join("token.new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    writeln!(file, "{token}")?;
    file.sync_all()?;
    fs::rename(&unfinished, &path)?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn is_made_once_and_only_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let made = read_or_make(dir.path(), [7; 32]).unwrap();
        assert_eq!(made.len(), 43);
        assert_eq!(read_or_make(dir.path(), [8; 32]).unwrap(), made);
        let mode = fs::metadata(dir.path().join(TOKEN_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_empty_file_is_no_token() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(TOKEN_FILE), "\n").unwrap();
        assert_eq!(read_or_make(dir.path(), [7; 32]).unwrap().len(), 43);
    }
}
