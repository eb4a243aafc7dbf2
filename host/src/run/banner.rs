//! What a host says once it runs.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use sandbar_control::{Control, IngressState};
use sandbar_ingress::State;
use tokio::time::{Instant, sleep};

use super::Origin;
use crate::demo;
use crate::output::{aligned, line};

/// A driver that is slower than this is shown as starting.
const SETTLED_MAX: Duration = Duration::from_secs(3);

/// For people; its last line is for programs: `sandbar: ready api=http://127.0.0.1:7420`.
pub(crate) async fn print(
    control: &Control,
    api: SocketAddr,
    data_dir: &Path,
    origin: &Origin,
    is_demo: bool,
) -> std::io::Result<()> {
    let ingresses = settled(control).await;
    let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    // What is no terminal is a log that is kept, and read by others.
    let link = match std::io::stdout().is_terminal() {
        true => format!("http://{api}/?token={}", control.token()),
        false => format!("http://{api}/ with the token in {}", data_dir.join("token").display()),
    };
    let mut rows = vec![
        vec!["  API".to_owned(), format!("http://{api}")],
        vec!["  sign in".to_owned(), link.clone()],
        vec!["  data".to_owned(), data_dir.display().to_string()],
        vec!["  configuration".to_owned(), origin.to_string()],
    ];
    let row = |ingress: &Ingress| vec!["  ingress".to_owned(), format!("{} {}", ingress.name, ingress.state)];
    rows.extend(ingresses.iter().map(row));
    line(format_args!("sandbar {}", env!("CARGO_PKG_VERSION")))?;
    line(aligned(rows))?;
    if is_demo {
        let web = ingresses.iter().find(|ingress| ingress.name == "web").and_then(|web| web.address);
        line(format_args!(
            "\n{}\n",
            demo::hints(&program(), &settings(api, &data_dir), web, &data_dir, &link)
        ))?;
    }
    line(format_args!("sandbar: ready api=http://{api}"))
}

struct Ingress {
    name: String,
    state: String,
    address: Option<SocketAddr>,
    is_starting: bool,
}

/// The ingresses, once each listens, or has failed to.
async fn settled(control: &Control) -> Vec<Ingress> {
    let until = Instant::now() + SETTLED_MAX;
    loop {
        let ingresses: Vec<Ingress> = control
            .status()
            .ingresses
            .into_iter()
            .map(|(name, state)| ingress(name.to_string(), state))
            .collect();
        if !ingresses.iter().any(|ingress| ingress.is_starting) || Instant::now() > until {
            return ingresses;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn ingress(name: String, state: IngressState) -> Ingress {
    let status = match state {
        IngressState::Supervised(status) => status,
        IngressState::Broken(cause) => {
            return Ingress { name, state: format!("BROKEN: {cause}"), address: None, is_starting: false };
        }
    };
    let (text, is_starting) = match (status.state, status.address, &status.last_error) {
        (State::Running, Some(address), _) => (format!("listens on {address}"), false),
        (State::Running, None, _) => ("runs".to_owned(), false),
        (State::Starting, ..) => ("is starting".to_owned(), true),
        (State::Stopped, ..) => ("is stopped".to_owned(), false),
        (State::BackingOff { .. }, _, Some(error)) => {
            (format!("FAILS, and is tried again: {}", error.text), false)
        }
        (State::BackingOff { .. }, _, None) => ("FAILS, and is tried again".to_owned(), false),
    };
    Ingress { name, state: text, address: status.address, is_starting }
}

/// As it was called: `target/release/sandbar` works where `sandbar` is not on the path.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "sandbar".to_owned())
}

/// What lets commands find this host from any directory.
fn settings(api: SocketAddr, data_dir: &Path) -> Vec<String> {
    let mut settings = vec![format!("SANDBAR_DATA='{}'", data_dir.display())];
    if api != SocketAddr::from((Ipv4Addr::LOCALHOST, 7420)) {
        settings.push(format!("SANDBAR_URL=http://{api}"));
    }
    settings
}
