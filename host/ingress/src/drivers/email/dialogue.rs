//! What is said to each command (RFC 5321, section 4.1). Pure.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use smtp_proto::{
    AUTH_LOGIN, AUTH_PLAIN, Error, MAIL_BODY_7BIT, MAIL_BODY_8BITMIME, MAIL_SMTPUTF8, MailFrom, RcptTo,
    Request,
};

use super::reply::{self, Reply};
use super::rules::Rules;

/// The state of one connection's conversation.
pub(super) struct Dialogue {
    rules: Arc<Rules>,
    /// The most bytes of a message here: the host's limit may be lower than the settings'.
    message_max: usize,
    /// The connection is encrypted.
    is_secured: bool,
    /// The name that the peer gave itself; `None` before it did.
    hello: Option<Box<str>>,
    user: Option<Box<str>>,
    mail: Option<Mail>,
    login: Option<Login>,
    /// Commands that were not understood, and failures to log in.
    errors: u32,
    failed_logins: u32,
}

/// A message's envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mail {
    pub(super) sender: Box<str>,
    pub(super) recipients: Vec<Box<str>>,
    is_utf8: bool,
}

impl Mail {
    #[cfg(any(test, feature = "contract-test"))]
    pub(super) fn of(sender: &str, recipients: &[&str]) -> Self {
        let recipients = recipients.iter().map(|recipient| Box::from(*recipient)).collect();
        Self { sender: sender.into(), recipients, is_utf8: false }
    }
}

/// Who sends, beside the envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) hello: Box<str>,
    pub(super) user: Option<Box<str>>,
    pub(super) is_secured: bool,
}

/// What AUTH still waits for.
#[derive(Debug, PartialEq, Eq)]
enum Login {
    Plain,
    Name,
    Password { name: String },
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Say(Reply),
    /// Several lines, as they are sent.
    SayLines(Vec<u8>),
    /// Say that the message may come, and take it.
    TakeMessage,
    StartTls,
    /// A password was wrong: guessing is to be slow.
    SayLater(Reply),
    /// Say it and hang up.
    End(Reply),
}

const ERRORS_MAX: u32 = 20;
const FAILED_LOGINS_MAX: u32 = 3;

const NO_HELLO: Reply = Reply::new(503, "5.5.1", "say EHLO first");
const NO_MAIL: Reply = Reply::new(503, "5.5.1", "say MAIL first");
const NEEDS_TLS: Reply = Reply::new(530, "5.7.0", "say STARTTLS first");
const NEEDS_LOGIN: Reply = Reply::new(530, "5.7.0", "log in first");
const UNSUPPORTED: Reply = Reply::new(555, "5.5.4", "a parameter is not supported");
const NOT_DONE_HERE: Reply = Reply::new(502, "5.5.1", "this is not done here");
const WRONG_LOGIN: Reply = Reply::new(535, "5.7.8", "name or password is wrong");

impl Dialogue {
    pub(super) fn new(rules: Arc<Rules>, message_max: usize, is_secured: bool) -> Self {
        Self {
            rules,
            message_max,
            is_secured,
            hello: None,
            user: None,
            mail: None,
            login: None,
            errors: 0,
            failed_logins: 0,
        }
    }

    pub(super) fn greeting(&self) -> Reply {
        Reply::saying(220, "", format!("{} ESMTP Sandbar", self.rules.domain))
    }

    /// Encrypted from now on: nothing that was said before counts (RFC 3207, section 4.2).
    pub(super) fn secured(&mut self) {
        *self = Self::new(Arc::clone(&self.rules), self.message_max, true);
    }

    /// Whether the next line is an answer to AUTH, and may be longer than others.
    pub(super) fn is_logging_in(&self) -> bool {
        self.login.is_some()
    }

    pub(super) fn sender(&self) -> Sender {
        Sender {
            hello: self.hello.clone().unwrap_or_default(),
            user: self.user.clone(),
            is_secured: self.is_secured,
        }
    }

    /// The envelope of the message that comes; the conversation begins anew.
    pub(super) fn take_mail(&mut self) -> Option<Mail> {
        self.mail.take()
    }

    /// `line` is without its end.
    pub(super) fn command(&mut self, line: &[u8]) -> Step {
        if let Some(login) = self.login.take() {
            return self.continue_login(login, line);
        }
        let mut ended = line.to_vec();
        ended.extend_from_slice(b"\r\n");
        match Request::parse(&mut ended.iter()) {
            Ok(request) => self.request(request),
            Err(error) => self.misunderstood(&error),
        }
    }

    /// For what is wrong before it is a command.
    pub(super) fn fault(&mut self, reply: Reply) -> Step {
        self.errors += 1;
        match self.errors > ERRORS_MAX {
            true => Step::End(reply::TOO_MANY_ERRORS),
            false => Step::Say(reply),
        }
    }

    fn misunderstood(&mut self, error: &Error) -> Step {
        self.fault(match error {
            Error::InvalidSenderAddress => Reply::new(553, "5.1.7", "this is no sender's address"),
            Error::InvalidRecipientAddress => Reply::new(553, "5.1.3", "this is no recipient's address"),
            Error::SyntaxError { syntax } => Reply::saying(501, "5.5.4", format!("expected {syntax}")),
            Error::InvalidParameter { param } => {
                Reply::saying(501, "5.5.4", format!("the parameter {param} is malformed"))
            }
            Error::UnsupportedParameter { .. } => UNSUPPORTED,
            _ => Reply::new(500, "5.5.1", "no such command"),
        })
    }

    fn request<T: AsRef<str>>(&mut self, request: Request<T>) -> Step {
        let needs_tls = self.rules.tls_required && !self.is_secured;
        match request {
            Request::Ehlo { host } => self.ehlo(host.as_ref()),
            Request::Helo { host } => {
                self.hello(host.as_ref());
                Step::Say(Reply::saying(250, "", self.rules.domain.clone()))
            }
            Request::Noop { .. } => Step::Say(reply::OK),
            Request::Quit => Step::End(reply::BYE),
            Request::StartTls => self.starttls(),
            _ if needs_tls => Step::Say(NEEDS_TLS),
            Request::Auth { mechanism, initial_response } => self.auth(mechanism, initial_response.as_ref()),
            Request::Mail { from } => Step::Say(self.mail(&from)),
            Request::Rcpt { to } => Step::Say(self.rcpt(&to)),
            Request::Data => match &self.mail {
                None => Step::Say(NO_MAIL),
                Some(mail) if mail.recipients.is_empty() => {
                    Step::Say(Reply::new(503, "5.5.1", "there is no recipient"))
                }
                Some(_) => Step::TakeMessage,
            },
            Request::Rset => {
                self.mail = None;
                Step::Say(reply::OK)
            }
            Request::Vrfy { .. } => {
                Step::Say(Reply::new(252, "2.1.5", "unknown, but messages to it may be taken"))
            }
            Request::Help { .. } => Step::Say(Reply::new(214, "2.0.0", "RFC 5321 tells all")),
            _ => self.fault(NOT_DONE_HERE),
        }
    }

    fn hello(&mut self, host: &str) {
        let clean: String = host.chars().filter(|c| !c.is_control()).take(255).collect();
        self.hello = Some(clean.into());
        // As after RSET (section 4.1.4).
        self.mail = None;
    }

    fn ehlo(&mut self, host: &str) -> Step {
        self.hello(host);
        let mut extensions = vec![
            format!("{} greets you", self.rules.domain),
            format!("SIZE {}", self.message_max),
            "PIPELINING".to_owned(),
            "8BITMIME".to_owned(),
            "SMTPUTF8".to_owned(),
            "ENHANCEDSTATUSCODES".to_owned(),
        ];
        if self.offers_tls() {
            extensions.push("STARTTLS".to_owned());
        }
        if self.offers_auth() {
            extensions.push("AUTH PLAIN LOGIN".to_owned());
        }
        let last = extensions.len() - 1;
        let line = |(index, text): (usize, &String)| {
            format!("250{}{text}\r\n", if index == last { ' ' } else { '-' })
        };
        Step::SayLines(extensions.iter().enumerate().map(line).collect::<String>().into_bytes())
    }

    fn offers_tls(&self) -> bool {
        self.rules.starttls && !self.is_secured
    }

    fn offers_auth(&self) -> bool {
        !self.rules.users.is_empty()
            && (self.is_secured || self.rules.auth_without_tls && !self.rules.tls_required)
    }

    fn starttls(&mut self) -> Step {
        match (self.rules.starttls, self.is_secured) {
            (true, false) => Step::StartTls,
            (true, true) => Step::Say(Reply::new(503, "5.5.1", "TLS has been started")),
            (false, _) => self.fault(NOT_DONE_HERE),
        }
    }

    fn auth(&mut self, mechanism: u64, initial: &str) -> Step {
        if self.hello.is_none() {
            return Step::Say(NO_HELLO);
        }
        if !self.offers_auth() {
            return match self.rules.users.is_empty() {
                true => self.fault(NOT_DONE_HERE),
                false => {
                    Step::Say(Reply::new(538, "5.7.11", "say STARTTLS first: the password would be seen"))
                }
            };
        }
        if self.user.is_some() || self.mail.is_some() {
            return Step::Say(Reply::new(503, "5.5.1", "not now"));
        }
        let challenge = |text: &'static str| Step::Say(Reply::new(334, "", text));
        let (login, challenge) = match mechanism {
            AUTH_PLAIN => (Login::Plain, challenge("")),
            // "Username:" and "Password:", as every client expects them.
            AUTH_LOGIN => (Login::Name, challenge("VXNlcm5hbWU6")),
            _ => return Step::Say(Reply::new(504, "5.5.4", "only PLAIN and LOGIN are understood")),
        };
        match initial {
            "" => {
                self.login = Some(login);
                challenge
            }
            // An empty initial response (RFC 4954, section 4).
            "=" => self.continue_login(login, b""),
            initial => self.continue_login(login, initial.as_bytes()),
        }
    }

    fn continue_login(&mut self, login: Login, line: &[u8]) -> Step {
        if line == b"*" {
            return Step::Say(Reply::new(501, "5.7.0", "the login was cancelled"));
        }
        let Ok(answer) = STANDARD.decode(line) else {
            return self.fault(Reply::new(501, "5.5.2", "this is not base64"));
        };
        match login {
            // RFC 4616: authorization identity, name and password.
            Login::Plain => {
                let mut parts = answer.splitn(3, |byte| *byte == 0);
                match (parts.next(), parts.next(), parts.next()) {
                    (Some(identity), Some(name), Some(password))
                        if identity.is_empty() || identity == name =>
                    {
                        self.finish_login(&String::from_utf8_lossy(name), password)
                    }
                    _ => self.finish_login("", b""),
                }
            }
            Login::Name => {
                self.login = Some(Login::Password { name: String::from_utf8_lossy(&answer).into_owned() });
                Step::Say(Reply::new(334, "", "UGFzc3dvcmQ6"))
            }
            Login::Password { name } => self.finish_login(&name, &answer),
        }
    }

    fn finish_login(&mut self, name: &str, password: &[u8]) -> Step {
        if self.rules.users.admit(name, password) {
            self.user = Some(name.into());
            return Step::Say(Reply::new(235, "2.7.0", "logged in"));
        }
        self.failed_logins += 1;
        match self.failed_logins >= FAILED_LOGINS_MAX {
            true => Step::End(reply::TOO_MANY_ERRORS),
            false => Step::SayLater(WRONG_LOGIN),
        }
    }

    fn mail<T: AsRef<str>>(&mut self, from: &MailFrom<T>) -> Reply {
        const KNOWN: u64 = MAIL_BODY_7BIT | MAIL_BODY_8BITMIME | MAIL_SMTPUTF8;
        let sender = from.address.as_ref();
        let is_utf8 = from.flags & MAIL_SMTPUTF8 != 0;
        if self.hello.is_none() {
            NO_HELLO
        } else if self.rules.auth_required && self.user.is_none() {
            NEEDS_LOGIN
        } else if self.mail.is_some() {
            Reply::new(503, "5.5.1", "there is a message already: say RSET first")
        } else if from.flags & !KNOWN != 0 || from.hold_for != 0 || from.hold_until != 0 || from.by != 0 {
            UNSUPPORTED
        } else if !sender.is_ascii() && !is_utf8 {
            Reply::new(553, "5.6.7", "an address beyond ASCII needs SMTPUTF8")
        } else if from.size > self.message_max {
            reply::TOO_LARGE
        } else if !self.rules.senders.include(sender) {
            Reply::new(550, "5.7.1", "this sender is not allowed")
        } else {
            self.mail = Some(Mail { sender: sender.into(), recipients: Vec::new(), is_utf8 });
            Reply::new(250, "2.1.0", "ok")
        }
    }

    fn rcpt<T: AsRef<str>>(&mut self, to: &RcptTo<T>) -> Reply {
        let Some(mail) = &mut self.mail else { return NO_MAIL };
        // The parser gives nothing for `<postmaster>`, which every server must take (section 4.1.1.3).
        let recipient = match to.address.as_ref() {
            "" => "postmaster",
            address => address,
        };
        if to.flags != 0 || to.orcpt.is_some() || to.rrvs != 0 {
            UNSUPPORTED
        } else if !recipient.is_ascii() && !mail.is_utf8 {
            Reply::new(553, "5.6.7", "an address beyond ASCII needs SMTPUTF8")
        } else if !self.rules.recipients.include(recipient) {
            Reply::new(550, "5.1.1", "there is no such recipient here")
        } else if mail.recipients.len() >= self.rules.recipients_max {
            Reply::new(452, "4.5.3", "too many recipients")
        } else {
            mail.recipients.push(recipient.into());
            Reply::new(250, "2.1.5", "ok")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn dialogue(settings: Value) -> Dialogue {
        let config = sandbar_reading::settings(settings).unwrap();
        Dialogue::new(Arc::new(Rules::new(&config).unwrap()), 1000, false)
    }

    fn said(step: &Step) -> String {
        let mut bytes = Vec::new();
        match step {
            Step::Say(reply) | Step::SayLater(reply) | Step::End(reply) => reply.write(&mut bytes),
            Step::SayLines(lines) => bytes.extend_from_slice(lines),
            Step::TakeMessage => reply::GO_AHEAD.write(&mut bytes),
            Step::StartTls => reply::START_TLS.write(&mut bytes),
        }
        String::from_utf8(bytes).unwrap()
    }

    /// The beginning of each answer.
    fn check(settings: Value, talk: &[(&str, &str)]) -> Dialogue {
        let mut dialogue = dialogue(settings);
        for (command, expected) in talk {
            let said = said(&dialogue.command(command.as_bytes()));
            assert!(said.starts_with(expected), "{command}: {said}");
        }
        dialogue
    }

    const EHLO: (&str, &str) = ("EHLO box", "250-localhost greets you\r\n250-SIZE 1000\r\n");

    #[test]
    fn takes_a_message_and_forgets_it_when_told() {
        let mut dialogue = check(
            json!({}),
            &[
                ("MAIL FROM:<a@x>", "503 5.5.1"),
                EHLO,
                ("RCPT TO:<b@y>", "503 5.5.1"),
                ("DATA", "503 5.5.1"),
                ("mail from:<a@x> SIZE=1000 BODY=8BITMIME", "250 2.1.0"),
                ("MAIL FROM:<a@x>", "503 5.5.1"),
                ("DATA", "503 5.5.1"),
                ("RCPT TO:<gone@y>", "250 2.1.5"),
                ("RSET", "250 2.0.0"),
                ("RCPT TO:<b@y>", "503 5.5.1"),
                ("MAIL FROM:<>", "250 2.1.0"),
                ("RCPT TO:<\"quoted, comma\"@y>", "250 2.1.5"),
                ("RCPT TO:<Postmaster>", "250 2.1.5"),
                ("VRFY b", "252"),
                ("NOOP", "250"),
                ("EXPN list", "502"),
                ("BDAT 5", "502"),
                ("XYZZY", "500"),
                ("DATA", "354"),
            ],
        );
        let mail = dialogue.take_mail().unwrap();
        assert_eq!((&*mail.sender, mail.recipients.len()), ("", 2));
        assert_eq!(mail.recipients[1], "postmaster".into());
        assert_eq!(dialogue.take_mail(), None);
    }

    #[test]
    fn refuses_by_name_what_the_settings_do_not_allow() {
        check(
            json!({ "allowed_senders": ["good.example"], "recipients": ["in@y"], "recipients_max": 1 }),
            &[
                EHLO,
                ("MAIL FROM:<a@bad.example>", "550 5.7.1"),
                ("MAIL FROM:<>", "550 5.7.1"),
                ("MAIL FROM:<a@good.example> SIZE=1001", "552 5.3.4"),
                ("MAIL FROM:<a@good.example> BODY=BINARYMIME", "555 5.5.4"),
                ("MAIL FROM:<a@good.example> RET=FULL", "555 5.5.4"),
                ("MAIL FROM:<\u{fc}@good.example>", "553 5.6.7"),
                ("MAIL FROM:a@good.example", "501 5.5.4"),
                ("MAIL FROM:<a b@good.example>", "5"),
                ("MAIL FROM:<\u{fc}@good.example> SMTPUTF8", "250"),
                ("RCPT TO:<out@y>", "550 5.1.1"),
                ("RCPT TO:<in@y> NOTIFY=NEVER", "555 5.5.4"),
                ("RCPT TO:<IN@Y>", "250"),
                ("RCPT TO:<in@y>", "452 4.5.3"),
            ],
        );
    }

    #[test]
    fn logs_in_by_both_mechanisms() {
        let settings = || json!({ "users": { "scanner": "se cret" }, "auth_without_tls": true });
        // "\0scanner\0se cret"
        let plain = "AHNjYW5uZXIAc2UgY3JldA==";
        check(
            settings(),
            &[EHLO, ("MAIL FROM:<a@x>", "530 5.7.0"), ("AUTH PLAIN", "334 \r\n"), (plain, "235")],
        );
        let dialogue = check(
            settings(),
            &[
                ("AUTH PLAIN", "503"),
                EHLO,
                ("AUTH CRAM-MD5", "504"),
                ("AUTH LOGIN", "334 VXNlcm5hbWU6\r\n"),
                ("*", "501 5.7.0"),
                ("AUTH LOGIN c2Nhbm5lcg==", "334 UGFzc3dvcmQ6\r\n"),
                ("c2UgY3JldA==", "235 2.7.0"),
                ("AUTH PLAIN", "503"),
                ("MAIL FROM:<a@x>", "250"),
            ],
        );
        assert_eq!(dialogue.sender().user.as_deref(), Some("scanner"));
    }

    #[test]
    fn nothing_but_tls_is_done_before_tls_where_it_is_required() {
        let tls = json!({ "certificate_file": "c.pem", "key_file": "k.pem" });
        let settings = json!({ "tls": tls, "tls_required": true, "users": { "a": "b" } });
        let mut dialogue = check(
            settings,
            &[
                EHLO,
                ("NOOP", "250"),
                ("AUTH PLAIN AGEAYg==", "530 5.7.0"),
                ("MAIL FROM:<a@x>", "530 5.7.0"),
                ("RSET", "530"),
                ("STARTTLS", "220"),
            ],
        );
        let before = said(&dialogue.command(b"EHLO box"));
        assert!(before.contains("STARTTLS") && !before.contains("AUTH"), "{before}");
        dialogue.secured();
        assert!(
            said(&dialogue.command(b"AUTH PLAIN AGEAYg==")).starts_with("503"),
            "EHLO is to be said again"
        );
        let after = said(&dialogue.command(b"EHLO box"));
        assert!(!after.contains("STARTTLS") && after.contains("AUTH PLAIN LOGIN"), "{after}");
        assert!(said(&dialogue.command(b"STARTTLS")).starts_with("503"));
        assert!(said(&dialogue.command(b"AUTH PLAIN AGEAYg==")).starts_with("235"));
    }

    #[test]
    fn a_guesser_is_slowed_and_then_sent_away() {
        let mut dialogue = check(json!({ "users": { "a": "b" }, "auth_without_tls": true }), &[EHLO]);
        let mut steps = Vec::new();
        // "\0a\0c"; somebody else's identity; no password at all.
        for response in ["AGEAYw==", "eABhAGI=", "YQ=="] {
            steps.push(dialogue.command(format!("AUTH PLAIN {response}").as_bytes()));
        }
        assert_eq!(steps[..2], [Step::SayLater(WRONG_LOGIN), Step::SayLater(WRONG_LOGIN)]);
        assert_eq!(steps[2], Step::End(reply::TOO_MANY_ERRORS));
    }

    #[test]
    fn who_only_errs_is_sent_away() {
        let mut dialogue = dialogue(json!({}));
        let ended = (0..=ERRORS_MAX).map(|_| dialogue.command(b"GET / HTTP/1.1")).last();
        assert_eq!(ended, Some(Step::End(reply::TOO_MANY_ERRORS)));
    }
}
