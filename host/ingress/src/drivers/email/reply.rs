//! What the server says (RFC 5321, section 4.2; enhanced codes of RFC 3463).

use std::borrow::Cow;

use sandbar_reading::Refused;

use crate::Answer;

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    /// Empty where there is none: greetings and 3xx (RFC 2034, section 4).
    enhanced: &'static str,
    text: Cow<'static, str>,
}

/// Of a line, with its code (RFC 5321, section 4.5.3.1.5: 512 bytes).
const TEXT_MAX: usize = 400;

impl Reply {
    pub(super) const fn new(code: u16, enhanced: &'static str, text: &'static str) -> Self {
        Self { code, enhanced, text: Cow::Borrowed(text) }
    }

    pub(super) fn saying(code: u16, enhanced: &'static str, text: impl Into<String>) -> Self {
        Self { code, enhanced, text: Cow::Owned(text.into()) }
    }

    /// Appends it as it is sent: one line of ASCII.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        let separator = if self.enhanced.is_empty() { "" } else { " " };
        into.extend_from_slice(format!("{} {}{separator}", self.code, self.enhanced).as_bytes());
        let plain = |c: char| if (' '..='~').contains(&c) { c as u8 } else { b'?' };
        let control = |c: char| if c.is_control() { ' ' } else { c };
        into.extend(self.text.chars().map(control).map(plain).take(TEXT_MAX));
        into.extend_from_slice(b"\r\n");
    }

    pub(super) fn refused(refused: &Refused) -> Self {
        match refused {
            Refused::Busy { .. } => Self::saying(452, "4.3.1", refused.to_string()),
            Refused::DiskFull => Self::saying(452, "4.3.1", refused.to_string()),
            Refused::TooLarge { .. } => Self::saying(552, "5.3.4", refused.to_string()),
            Refused::Storage { .. } => Self::saying(451, "4.3.0", refused.to_string()),
            Refused::Stopping => SHUTTING_DOWN,
        }
    }

    /// What a handler says of a message that is on disk under `id`.
    pub(super) fn answered(answer: Option<&Answer>, id: &str) -> Self {
        match answer {
            // That a handler is called again is no answer: who is told 451 would send again what is on disk.
            Some(Answer::Retrying(_)) | None => Self::saying(250, "2.0.0", format!("taken as {id}")),
            Some(Answer::Reply(message)) => {
                let said =
                    std::str::from_utf8(&message.payload).ok().map(str::trim).filter(|said| !said.is_empty());
                Self::saying(250, "2.0.0", format!("taken as {id}: {}", said.unwrap_or("handled")))
            }
            Some(Answer::Rejected(why)) => Self::saying(554, "5.6.0", format!("{id} was refused: {why}")),
        }
    }
}

pub(super) const OK: Reply = Reply::new(250, "2.0.0", "ok");
pub(super) const BYE: Reply = Reply::new(221, "2.0.0", "bye");
pub(super) const SHUTTING_DOWN: Reply = Reply::new(421, "4.3.2", "shutting down");
pub(super) const TOO_MANY_CONNECTIONS: Reply =
    Reply::new(421, "4.3.2", "too many connections, try again later");
pub(super) const TOO_SLOW: Reply = Reply::new(421, "4.4.2", "timed out");
pub(super) const TOO_MANY_ERRORS: Reply = Reply::new(421, "4.7.0", "too many errors");
pub(super) const GO_AHEAD: Reply = Reply::new(354, "", "end with <CR><LF>.<CR><LF>");
pub(super) const START_TLS: Reply = Reply::new(220, "2.0.0", "ready to start TLS");
pub(super) const LINE_TOO_LONG: Reply = Reply::new(500, "5.5.2", "the line is too long");
pub(super) const BARE_IN_COMMAND: Reply =
    Reply::new(500, "5.5.2", "a line ends in <CR><LF>, and has neither within");
pub(super) const BARE_IN_MESSAGE: Reply =
    Reply::new(550, "5.6.0", "the message has a <CR> or <LF> that stands alone");
pub(super) const TOO_LARGE: Reply = Reply::new(552, "5.3.4", "the message is too large");
pub(super) const BUSY: Reply = Reply::new(452, "4.3.1", "too many messages are being taken, try again later");

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn written(reply: &Reply) -> String {
        let mut bytes = Vec::new();
        reply.write(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_reply_is_one_line_whatever_a_handler_says() {
        assert_eq!(written(&GO_AHEAD), "354 end with <CR><LF>.<CR><LF>\r\n");
        let rejected = Answer::Rejected("bad\r\n250 ok \u{1f980} é".to_owned());
        assert_eq!(
            written(&Reply::answered(Some(&rejected), "01A")),
            "554 5.6.0 01A was refused: bad  250 ok ? ?\r\n"
        );
        let long = Answer::Rejected("x".repeat(9000));
        assert!(written(&Reply::answered(Some(&long), "01A")).len() < 512);
    }

    #[test]
    fn a_refusal_says_whether_to_come_again() {
        let code = |refused| Reply::refused(&refused).code;
        assert_eq!(code(Refused::Busy { retry_after: Duration::from_secs(1) }), 452);
        assert_eq!(code(Refused::DiskFull), 452);
        assert_eq!(code(Refused::TooLarge { size: 2, limit: 1 }), 552);
        assert_eq!(code(Refused::Storage { cause: "EIO".into() }), 451);
        assert_eq!(code(Refused::Stopping), 421);
    }
}
