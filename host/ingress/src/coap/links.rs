//! Link format (RFC 6690): what a server says that it has. Pure.

use crate::pattern::decode;

/// One resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// `/led`
    pub(crate) path: String,
    /// It says that it can be observed.
    pub(crate) observable: bool,
    /// What it speaks, if it says so.
    pub(crate) format: Option<u16>,
}

/// How many resources of one node are looked at.
pub(crate) const LINKS_MAX: usize = 256;

/// Links to other hosts are left out, and so is all from the first one that cannot be read.
pub(crate) fn parse(text: &str) -> Vec<Link> {
    pieces(text, ',').take(LINKS_MAX).map_while(read).flatten().collect()
}

/// `None` says that this is no link, `Some(None)` that it is none of this node's.
fn read(text: &str) -> Option<Option<Link>> {
    let mut parts = pieces(text, ';');
    let target = parts.next()?.trim().strip_prefix('<')?.strip_suffix('>')?;
    if target.contains("://") || target.contains(['?', '#']) {
        return Some(None);
    }
    let Ok(path) = decode(target.trim_start_matches('/')) else { return Some(None) };
    let mut link = Link { path: format!("/{path}"), observable: false, format: None };
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match name.trim() {
            "obs" => link.observable = true,
            "ct" => {
                let mut numbers = value.trim().trim_matches('"').split(' ');
                link.format = numbers.find_map(|number| number.parse().ok());
            }
            _ => {}
        }
    }
    Some(Some(link))
}

/// What stands between `separator`s that are neither in a quoted text nor in a target.
fn pieces(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut escaped, mut quoted, mut target) = (false, false, false);
    text.split(move |character| {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if !target => quoted = !quoted,
            '<' if !quoted => target = true,
            '>' if !quoted => target = false,
            other => return other == separator && !quoted && !target,
        }
        false
    })
}

/// `</a/b>;obs;ct=50;title="…"`, as far as it is known.
pub(crate) fn write(links: &[Link]) -> String {
    let link = |link: &Link| {
        let observable = if link.observable { ";obs" } else { "" };
        let format = link.format.map(|format| format!(";ct={format}")).unwrap_or_default();
        format!("<{}>{observable}{format}", encode(&link.path))
    };
    links.iter().map(link).collect::<Vec<_>>().join(",")
}

/// Percent-encodes what a link cannot hold (RFC 3986, section 3.3).
fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' | b'!' | b'$' | b'&' | b'*' | b'+' | b'=' => {
                encoded.push(char::from(byte));
            }
            byte if byte.is_ascii_alphanumeric() => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(path: &str, observable: bool, format: Option<u16>) -> Link {
        Link { path: path.to_owned(), observable, format }
    }

    #[test]
    fn reads_what_nodes_say() {
        let text = r#"</.well-known/core>;ct=40,</led>;rt="light,dimmable";if="actuator";obs,<temp>;ct="50 60";sz=4"#;
        let expected = [
            link("/.well-known/core", false, Some(40)),
            link("/led", true, None),
            link("/temp", false, Some(50)),
        ];
        assert_eq!(parse(text), expected);
        assert_eq!(parse("<coap://other/x>,</y>"), [link("/y", false, None)]);
        assert_eq!(parse(""), []);
        let quoted = r#"</a,b>;title="x\",<y>;obs",</c>;obs"#;
        assert_eq!(parse(quoted), [link("/a,b", false, None), link("/c", true, None)]);
    }

    #[test]
    fn a_quote_that_is_cut_within_a_character_is_survived() {
        assert_eq!(parse("</a>;title=\"x5\u{fffd}\u{fffd}?\u{fffd}"), [link("/a", false, None)]);
    }

    #[test]
    fn garbage_gives_what_was_readable_before_it() {
        for garbage in ["</a>,<", "</a>,x", "</a>;;", "</a>;=,<b", "\u{0},</a>"] {
            assert!(parse(garbage).len() <= 2, "{garbage:?}");
        }
    }

    #[test]
    fn writes_what_others_can_read() {
        let links = [link("/a/b", true, Some(50)), link("/küche", false, None)];
        assert_eq!(write(&links), "</a/b>;obs;ct=50,</k%C3%BCche>");
    }
}
