//! Cameras in the network, over HTTP: streams, and pictures one by one.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::auth::{Challenge, Login};
use super::config::Remote;
use super::frames::{Asks, Frames, frames};
use super::jpeg::{self, Picture};
use super::multipart::{Parts, boundary};
use crate::complaints::Complaints;
use crate::{LinkError, Session};

/// A camera that was connected to.
pub(super) enum Connected {
    Stream(Frames),
    Pictures(Pictures),
}

/// A camera that is asked for each picture.
pub(super) struct Pictures {
    client: Client,
    url: Url,
    login: Option<Login>,
    /// The camera's last, and how often it was answered.
    challenge: Option<(Challenge, u32)>,
    timeout: Duration,
    picture_max: usize,
}

/// Asks once, to see what it is.
pub(super) async fn connect(
    remote: &Remote,
    timeout: Duration,
    session: &Session,
) -> Result<Connected, LinkError> {
    let access = remote.access.current();
    let client = Client::builder()
        .user_agent(concat!("sandbar/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(access.tls.clone())
        // Whose address was not configured gets no password.
        .redirect(redirect::Policy::none())
        .connect_timeout(timeout)
        .build()
        .map_err(|error| LinkError::new("preparing HTTP", error))?;
    let mut pictures = Pictures {
        client,
        url: remote.url.clone(),
        login: access.login.clone(),
        challenge: None,
        timeout,
        picture_max: session.reading_max(),
    };
    let response = pictures.get().await?;
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let Some(boundary) = boundary(content_type.unwrap_or_default()) else {
        return Ok(Connected::Pictures(pictures));
    };
    let parts = Parts::new(boundary, pictures.picture_max);
    let (frames, asks, end) = frames();
    let complaints = Complaints::new(session.ingress().clone());
    let stream =
        Stream { response, parts, timeout, complaints, session: session.clone(), url: pictures.shown() };
    tokio::spawn(async move {
        if let Err(lost) = stream.run(asks).await {
            // Whoever asked may be gone.
            drop(end.send(lost));
        }
    });
    Ok(Connected::Stream(frames))
}

impl Pictures {
    /// A picture, taken now.
    pub(super) async fn next(&mut self) -> Result<Picture, LinkError> {
        let timeout = self.timeout;
        let read = tokio::time::timeout(timeout, self.read()).await;
        let bytes = read.map_err(|_| silent(&self.shown(), timeout))??;
        jpeg::check(&bytes).map_err(|error| LinkError::new(format!("{} sent no JPEG", self.context()), error))
    }

    async fn read(&mut self) -> Result<Bytes, LinkError> {
        let mut response = self.get().await?;
        let max = self.picture_max;
        let mut bytes = BytesMut::new();
        let failed = |error: reqwest::Error| LinkError::new(self.context(), error.without_url());
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > max {
                let problem =
                    format!("{} sends more than the {max} bytes that a reading may have", self.context());
                return Err(LinkError::ended(problem));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// The answer, if it is one, with a password if that is asked for.
    async fn get(&mut self) -> Result<Response, LinkError> {
        let first = self.ask().await?;
        let response = match (first.status(), &self.login) {
            (StatusCode::UNAUTHORIZED, Some(_)) => {
                let challenge = challenge(first.headers()).ok_or_else(|| {
                    LinkError::ended(format!(
                        "{} asks for a password in a way that is not known here",
                        self.context()
                    ))
                })?;
                self.challenge = Some((challenge, 0));
                self.ask().await?
            }
            _ => first,
        };
        match (response.status(), &self.login) {
            (StatusCode::OK, _) => Ok(response),
            (StatusCode::UNAUTHORIZED, None) => {
                Err(LinkError::ended(format!("{} asks for user and password", self.context())))
            }
            (StatusCode::UNAUTHORIZED, Some(_)) => {
                Err(LinkError::ended(format!("{} refuses user and password", self.context())))
            }
            (status, _) => Err(LinkError::ended(format!("{} answers {status}", self.context()))),
        }
    }

    async fn ask(&mut self) -> Result<Response, LinkError> {
        let mut request = self.client.get(self.url.clone());
        if let (Some(login), Some((challenge, count))) = (&self.login, &mut self.challenge) {
            *count += 1;
            let uri = match self.url.query() {
                Some(query) => format!("{}?{query}", self.url.path()),
                None => self.url.path().to_owned(),
            };
            let cnonce = format!("{:032x}", rand::random::<u128>());
            request = request.header(AUTHORIZATION, challenge.answer(login, &uri, *count, &cnonce));
        }
        match tokio::time::timeout(self.timeout, request.send()).await {
            Ok(answer) => answer.map_err(|error| LinkError::new(self.context(), error.without_url())),
            Err(_) => Err(silent(&self.shown(), self.timeout)),
        }
    }

    fn context(&self) -> String {
        format!("the camera at {}", self.shown())
    }

    /// Without its query, which may hold a password.
    fn shown(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.into()
    }
}

fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    Challenge::best(headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()))
}

fn silent(url: &str, timeout: Duration) -> LinkError {
    LinkError::ended(format!("the camera at {url} gave no picture within {} ms", timeout.as_millis()))
}

/// A stream that is open.
struct Stream {
    response: Response,
    parts: Parts,
    timeout: Duration,
    complaints: Complaints,
    session: Session,
    url: String,
}

impl Stream {
    /// Until nobody can ask any more.
    async fn run(mut self, mut asks: Asks) -> Result<(), LinkError> {
        let mut asked: Option<oneshot::Sender<Picture>> = None;
        let mut due = Instant::now() + self.timeout;
        loop {
            while let Some(picture) = self.picture()? {
                due = Instant::now() + self.timeout;
                if let Some(asked) = asked.take() {
                    // Who asked may have given up.
                    drop(asked.send(picture));
                }
            }
            if self.parts.is_ended() {
                return Err(self.ended());
            }
            tokio::select! {
                chunk = self.response.chunk() => match chunk {
                    Ok(Some(bytes)) => self.parts.push(&bytes),
                    Ok(None) => return Err(self.ended()),
                    Err(error) => {
                        let context = format!("the stream of the camera at {}", self.url);
                        return Err(LinkError::new(context, error.without_url()));
                    }
                },
                ask = asks.recv(), if asked.is_none() => match ask {
                    Some(ask) => asked = Some(ask),
                    None => return Ok(()),
                },
                () = tokio::time::sleep_until(due) => return Err(silent(&self.url, self.timeout)),
            }
        }
    }

    /// The next one that came whole. What is no picture is passed over.
    fn picture(&mut self) -> Result<Option<Picture>, LinkError> {
        loop {
            let part = self.parts.next();
            let context = || format!("the stream of the camera at {}", self.url);
            let Some(part) = part.map_err(|error| LinkError::new(context(), error))? else { return Ok(None) };
            match jpeg::check(&part) {
                Ok(picture) => return Ok(Some(picture)),
                Err(error) => self.complaints.note("no JPEG", &self.url, error, self.session.now()),
            }
        }
    }

    fn ended(&self) -> LinkError {
        LinkError::ended(format!("the camera at {} ended its stream", self.url))
    }
}
