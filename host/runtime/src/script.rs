//! Scripts: handlers given as text, run by a component that is made for it (`guest-sdk/script`). To the host they
//! are modules as any other: the same sandbox, limits and permissions.

use std::path::PathBuf;

use bytes::Bytes;

/// How a script's bytes begin, so that nothing else is taken for one.
const HEADER: &[u8] = b"\0sandbar script: javascript\n";

/// The setting in which the component that runs scripts finds its own. Settings of this prefix are not listed.
pub(crate) const SETTING: &str = "sandbar.script";

/// The component's file.
const FILE: &str = "script.wasm";

/// A script in JavaScript as a module's bytes, as [`crate::Runtime::load`] takes them.
pub fn javascript(text: &str) -> Bytes {
    [HEADER, text.as_bytes()].concat().into()
}

/// The text of a script, if these bytes are one; `Err` if it is no UTF-8.
pub fn text(module: &[u8]) -> Option<Result<&str, std::str::Utf8Error>> {
    module.strip_prefix(HEADER).map(std::str::from_utf8)
}

/// Where the component that runs scripts is looked for: the folder that `SANDBAR_GUESTS` names, else where an
/// installation has it (`../share/sandbar` or beside the binary), else where `make guests` puts it.
pub(crate) fn places() -> Vec<PathBuf> {
    if let Some(guests) = std::env::var_os("SANDBAR_GUESTS") {
        return vec![PathBuf::from(guests).join(FILE)];
    }
    let binary = std::env::current_exe().ok();
    let folder = binary.as_deref().and_then(|binary| binary.parent());
    let cache = std::env::var_os("SANDBAR_CACHE")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache/sandbar")));
    let installed =
        folder.into_iter().flat_map(|folder| [folder.join("../share/sandbar").join(FILE), folder.join(FILE)]);
    installed.chain(cache.map(|cache| cache.join("guests").join(FILE))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_is_taken_for_a_script() {
        assert_eq!(text(&javascript("let a = 1;")).unwrap().unwrap(), "let a = 1;");
        for module in [&b"let a = 1;"[..], b"\0asm\x01\0\0\0", b""] {
            assert!(text(module).is_none());
        }
    }
}
