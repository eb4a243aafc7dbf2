//! Messages as HTTP requests (RFC 9110).

mod answer;
mod config;
mod content;
mod influx;
mod request;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, StatusCode, Url};
use sandbar_reading::{Clock, ConfigError, Delivery, Secret, SystemClock};
use sandbar_tls::Renewed;

use crate::template::{Escape, Template};
use crate::{Cause, DeliveryError, Progress, Sink, tls};
use answer::{Answer, decide};
pub(crate) use config::Config;
use content::Content;
use request::Header;

/// One request a message, one after the other, over connections that are kept open.
pub(crate) struct Http {
    far: Renewed<Far>,
    method: Method,
    content: Content,
    reject: Vec<StatusCode>,
}

/// What depends on files that settings name: certificates, and secrets.
struct Far {
    client: Client,
    address: Address,
    headers: Vec<Header>,
}

#[derive(Debug)]
enum Method {
    Is(reqwest::Method),
    Made(Box<Template>),
}

#[derive(Debug)]
enum Address {
    Is(Url),
    Made(Box<Template>),
}

/// A request as it is sent.
struct Whole {
    method: reqwest::Method,
    url: Url,
    request: request::Request,
}

impl Sink for Http {
    const NAME: &'static str = "http";
    const EXAMPLE: &'static str = r#"url = "https://example.com/readings"
method = "POST"
headers = { Authorization = "Bearer change-me" }
timeout_ms = 10000
body = "json"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let content = Content::new(&config)?;
        let method = match Template::is_one(&config.method) {
            true => Method::Made(Box::new(Template::new("method", &config.method)?)),
            false => {
                Method::Is(method(&config.method, &content).map_err(|text| ConfigError::at("method", text))?)
            }
        };
        let of_many = content.is_of_many();
        if of_many && matches!(method, Method::Made(_)) {
            return Err(ConfigError::at("method", OF_MANY));
        }
        let reject: Vec<StatusCode> =
            config.reject.iter().copied().enumerate().map(error_status).collect::<Result<_, _>>()?;
        let secrets = config.secret_url.iter().chain(config.headers.values());
        let files: Vec<PathBuf> = secrets.filter_map(Secret::file).chain(config.ca_file.clone()).collect();
        let far = Renewed::new(files, move || Far::new(&config, of_many))?;
        Ok(Self { far, method, content, reject })
    }

    async fn deliver(&self, batch: &[Delivery], progress: &Progress) -> Result<(), DeliveryError> {
        let far = self.far.current();
        match self.content.is_of_many() {
            false => self.one_by_one(&far, batch, progress).await,
            true => self.together(&far, batch, progress).await,
        }
    }
}

const OF_MANY: &str = "cannot depend on the message, as one request holds many";

impl Far {
    /// `of_many`: a request holds many messages. It has one address, whatever it holds.
    fn new(config: &Config, of_many: bool) -> Result<Self, ConfigError> {
        let address = address(config)?;
        let headers = request::configured(&config.headers)?;
        if of_many && matches!(address, Address::Made(_)) {
            return Err(ConfigError::at("url", OF_MANY));
        }
        if of_many && headers.iter().any(Header::is_made) {
            return Err(ConfigError::at("headers", OF_MANY));
        }
        Ok(Self { client: client(config, &address)?, address, headers })
    }
}

impl Http {
    async fn one_by_one(
        &self,
        far: &Far,
        batch: &[Delivery],
        progress: &Progress,
    ) -> Result<(), DeliveryError> {
        for index in 0..batch.len() {
            let answer = match self.whole(far, &batch[index..=index]) {
                Ok(whole) => self.send(far, whole).await,
                Err((_, cause)) => Answer::Never { cause },
            };
            match answer {
                Answer::Taken => progress.reached(index + 1),
                Answer::Later { after, cause } => {
                    return Err(DeliveryError::Retry { delivered: index, after, cause });
                }
                Answer::Never { cause } => return Err(DeliveryError::Reject { rejected: index, cause }),
            }
        }
        Ok(())
    }

    /// Everything in one request; of one that is refused, the first half, and so on.
    async fn together(
        &self,
        far: &Far,
        batch: &[Delivery],
        progress: &Progress,
    ) -> Result<(), DeliveryError> {
        let (mut delivered, mut size) = (0, batch.len());
        while delivered < batch.len() {
            let part = &batch[delivered..(delivered + size).min(batch.len())];
            let answer = match self.whole(far, part) {
                Ok(whole) => self.send(far, whole).await,
                Err((0, cause)) => return Err(DeliveryError::Reject { rejected: delivered, cause }),
                // Those before the one that cannot be written.
                Err((before, _)) => {
                    size = before;
                    continue;
                }
            };
            match answer {
                Answer::Taken => {
                    delivered += part.len();
                    progress.reached(delivered);
                }
                Answer::Later { after, cause } => {
                    return Err(DeliveryError::Retry { delivered, after, cause });
                }
                Answer::Never { cause } if part.len() == 1 => {
                    return Err(DeliveryError::Reject { rejected: delivered, cause });
                }
                Answer::Never { .. } => size = part.len() / 2,
            }
        }
        Ok(())
    }

    /// The request for `part`, which is not empty; or which one of it is at fault, and why.
    fn whole(&self, far: &Far, part: &[Delivery]) -> Result<Whole, (usize, Cause)> {
        let mut request = self.content.request(part)?;
        let first = &part[0];
        let of_first = |cause| (0, cause);
        for header in &far.headers {
            header.add(first, &mut request.headers).map_err(of_first)?;
        }
        let method = match &self.method {
            Method::Is(method) => method.clone(),
            Method::Made(template) => {
                let text = template.render(first).map_err(of_first)?;
                method(&text, &self.content).map_err(|text| (0, Cause::new(format!("method: {text}"))))?
            }
        };
        let url = match &far.address {
            Address::Is(url) => url.clone(),
            Address::Made(template) => {
                let text = template.render(first).map_err(of_first)?;
                made_url(&text).map_err(|problem| (0, Cause::new(format!("url: {problem}"))))?
            }
        };
        Ok(Whole { method, url, request })
    }

    async fn send(&self, far: &Far, Whole { method, url, request }: Whole) -> Answer {
        // The path and query may be secrets.
        let whom = format!("{method} to {}", url.origin().ascii_serialization());
        match far.client.request(method, url).headers(request.headers).body(request.body).send().await {
            Ok(response) => {
                let decided = decide(response.status(), response.headers(), &self.reject, SystemClock.now());
                decided.explained(&whom, response).await
            }
            Err(error) => Answer::Later { after: None, cause: Cause::of(&whom, &error.without_url()) },
        }
    }
}

fn method(text: &str, content: &Content) -> Result<reqwest::Method, String> {
    match text.trim() {
        "POST" => Ok(reqwest::Method::POST),
        "PUT" => Ok(reqwest::Method::PUT),
        "PATCH" => Ok(reqwest::Method::PATCH),
        "GET" if content.is_nothing() => Ok(reqwest::Method::GET),
        "DELETE" if content.is_nothing() => Ok(reqwest::Method::DELETE),
        other @ ("GET" | "DELETE") => Err(format!("{other} carries no body: it needs `body = \"none\"`")),
        other => Err(format!("`{other}` is none of POST, PUT, PATCH, GET and DELETE")),
    }
}

fn address(config: &Config) -> Result<Address, ConfigError> {
    let (setting, text) = match (&config.url, &config.secret_url) {
        (Some(url), None) => ("url", url.clone()),
        (None, Some(secret)) => ("secret_url", read_secret(secret, "secret_url")?),
        _ => return Err(ConfigError::at("url", "set either this or secret_url")),
    };
    if setting == "url" && authority(&text).contains('@') {
        let problem = "a user and password in it would be shown: use `secret_url`, or a header of its own";
        return Err(ConfigError::at(setting, problem));
    }
    match Template::is_one(&text) {
        true => Ok(Address::Made(Box::new(Template::escaping(setting, &text, Escape::Url)?))),
        false => parse_url(&text).map(Address::Is).map_err(|problem| ConfigError::at(setting, problem)),
    }
}

fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// A value that is `.` or `..` would lead to another path, also if it were escaped (WHATWG URL, 4.1).
fn made_url(text: &str) -> Result<Url, String> {
    let path = text.split(['?', '#']).next().unwrap_or_default();
    match path.split('/').any(|part| matches!(part, "." | "..")) {
        true => Err("a part of the path is `.` or `..`".to_owned()),
        false => parse_url(text),
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("must begin with http:// or https://, not {other}:")),
    }
}

fn client(config: &Config, address: &Address) -> Result<Client, ConfigError> {
    tls::install_provider();
    let mut client = Client::builder()
        .user_agent(concat!("sandbar/", env!("CARGO_PKG_VERSION")))
        .timeout(std::time::Duration::from_millis(config.timeout_ms.get()))
        .redirect(Policy::custom(same_host_only));
    if matches!(address, Address::Is(url) if url.scheme() == "http") {
        // A system without any root certificates need not have them for this.
        client = client.tls_certs_only([]);
    }
    if let Some(path) = &config.ca_file {
        client = client.tls_certs_merge(tls::read_certificates("ca_file", path)?);
    }
    client.build().map_err(|error| ConfigError::at("url", Cause::of("preparing TLS", &error).to_string()))
}

/// A redirect that would turn the request into a GET (301 to 303) delivers nothing, and one to another host
/// was not configured: both are left as the answer.
fn same_host_only(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    const FOLLOWED_MAX: usize = 5;
    let keeps_method = matches!(attempt.status().as_u16(), 307 | 308);
    let same_host = attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
    match keeps_method && same_host && attempt.previous().len() <= FOLLOWED_MAX {
        true => attempt.follow(),
        false => attempt.stop(),
    }
}

fn error_status((index, code): (usize, u16)) -> Result<StatusCode, ConfigError> {
    StatusCode::from_u16(code)
        .ok()
        .filter(|status| status.is_client_error() || status.is_server_error())
        .ok_or_else(|| ConfigError::at(format!("reject[{index}]"), "must be a status from 400 to 599"))
}

fn read_secret(secret: &Secret, setting: &str) -> Result<String, ConfigError> {
    secret.resolve(setting, |path| std::fs::read_to_string(path))
}
