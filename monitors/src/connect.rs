//! Opening a TCP connection so that a failure says which address failed, how, and what that usually means.
//!
//! The kinds `tcp` and `tls` share it, and `dns` its words for errors. It tries every address of a name in turn, as
//! programs do, because a service is reachable when one of them answers; the addresses that did not answer are named
//! all the same.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use watchbell_contract::ConfigReader;

/// How many addresses of one name are tried: more than any usual service has, few enough for each to get its time.
const MAX_ADDRESSES: usize = 8;
/// What is kept back of a check's time, so that the check itself says what it waited for. Without it the engine
/// would only say that the check took too long.
const LONGEST_RESERVE: Duration = Duration::from_millis(500);

/// The instant by which a check must have its answer to be able to report it within `timeout`.
pub(crate) fn answer_by(timeout: Duration) -> Instant {
    Instant::now() + (timeout - (timeout / 10).min(LONGEST_RESERVE))
}

/// Where a check connects to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    only: Option<IpVersion>,
}

/// An open connection, and how it came about.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) address: SocketAddr,
    /// How long the address that answered took, without looking up the name.
    pub(crate) took: Duration,
    /// A sentence about addresses of the same name that did not answer; empty when the first one did.
    pub(crate) detours: String,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    #[error("the name `{host}` cannot be resolved on this machine (is it spelled right, does the name server answer?)")]
    Unresolved { host: String, source: io::Error },
    #[error("looking up the name `{host}` took longer than {seconds:.1} s; the machine's name server does not answer")]
    LookupTimeout { host: String, seconds: f64 },
    #[error("`{host}` has no {wanted} address (found: {found})")]
    NoAddress { host: String, wanted: &'static str, found: String },
    #[error("cannot connect to `{host}` port {port}: {reasons}")]
    NoneAnswers { host: String, port: u16, reasons: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IpVersion {
    V4,
    V6,
}

impl Target {
    /// Reads `host`, `port` and `ip_version`. Without a default, the port must be given.
    pub(crate) fn read(config: &mut ConfigReader<'_>, default_port: Option<u16>) -> Self {
        let host = config.required_text("host");
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => inner.to_owned(),
            None => host,
        };
        if let Some(problem) = host_problem(&host) {
            config.fault("host", problem, Some("write only the name or the address, and the port in `port`".into()));
        }
        if default_port.is_none() && !config.has("port") {
            config.fault("port", "is required", Some("for example {\"port\": 5432}".into()));
        }
        let port = config.whole_number("port", 1..=i64::from(u16::MAX)).and_then(|port| u16::try_from(port).ok());
        let only = match config.whole_number("ip_version", 4..=6) {
            None => None,
            Some(4) => Some(IpVersion::V4),
            Some(6) => Some(IpVersion::V6),
            Some(other) => {
                config.fault("ip_version", format!("expected 4 or 6, found {other}"), None);
                None
            }
        };
        Self { host, port: port.or(default_port).unwrap_or_default(), only }
    }

    /// Connects to the first address that answers.
    pub(crate) async fn connect(&self, deadline: Instant) -> Result<Connection, Unreachable> {
        let addresses = self.addresses(deadline).await?;
        first_answering(&addresses, deadline).await.map_err(|reasons| Unreachable::NoneAnswers {
            host: self.host.clone(),
            port: self.port,
            reasons,
        })
    }

    async fn addresses(&self, deadline: Instant) -> Result<Vec<SocketAddr>, Unreachable> {
        let all = match self.host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, self.port)],
            Err(_) => self.look_up(deadline).await?,
        };
        let fitting: Vec<_> = all.iter().copied().filter(|address| self.fits(address)).take(MAX_ADDRESSES).collect();
        if fitting.is_empty() {
            let wanted = self.only.map_or("IP", IpVersion::name);
            let found = match all.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>() {
                ips if ips.is_empty() => "none at all".to_owned(),
                ips => ips.join(", "),
            };
            return Err(Unreachable::NoAddress { host: self.host.clone(), wanted, found });
        }
        Ok(fitting)
    }

    async fn look_up(&self, deadline: Instant) -> Result<Vec<SocketAddr>, Unreachable> {
        let started = Instant::now();
        match timeout_at(deadline, tokio::net::lookup_host((self.host.as_str(), self.port))).await {
            Ok(Ok(addresses)) => Ok(addresses.collect()),
            Ok(Err(source)) => Err(Unreachable::Unresolved { host: self.host.clone(), source }),
            Err(_) => {
                Err(Unreachable::LookupTimeout { host: self.host.clone(), seconds: started.elapsed().as_secs_f64() })
            }
        }
    }

    fn fits(&self, address: &SocketAddr) -> bool {
        match self.only {
            None => true,
            Some(IpVersion::V4) => address.is_ipv4(),
            Some(IpVersion::V6) => address.is_ipv6(),
        }
    }
}

impl IpVersion {
    fn name(self) -> &'static str {
        match self {
            IpVersion::V4 => "IPv4",
            IpVersion::V6 => "IPv6",
        }
    }
}

/// What an I/O error on a connection means to a person who has to act.
pub(crate) fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "connection refused (the host is up, but nothing listens on this port, or a firewall rejects it)".into()
        }
        io::ErrorKind::HostUnreachable => "host unreachable (it is down, or a router knows no way to it)".into(),
        io::ErrorKind::NetworkUnreachable => "network unreachable (this machine has no route to it)".into(),
        io::ErrorKind::TimedOut => "no answer (the host is down, or a firewall drops the packets)".into(),
        io::ErrorKind::ConnectionReset => "the connection was reset by the other side".into(),
        io::ErrorKind::UnexpectedEof => "the other side closed the connection".into(),
        _ => error.to_string(),
    }
}

/// The first address that accepts, or the reasons of all. Each gets an equal share of what time is left, so that a
/// silent first address leaves time for the second.
async fn first_answering(addresses: &[SocketAddr], deadline: Instant) -> Result<Connection, String> {
    let mut failures = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        let started = Instant::now();
        let untried = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(started) / untried;
        let reason = match timeout_at(started + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) if is_own_end(&stream, *address) => explain(&io::ErrorKind::ConnectionRefused.into()),
            Ok(Ok(stream)) => {
                let detours = match failures.join("; ") {
                    reasons if reasons.is_empty() => String::new(),
                    reasons => format!(" (other addresses of it do not answer: {reasons})"),
                };
                return Ok(Connection { stream, address: *address, took: started.elapsed(), detours });
            }
            Ok(Err(error)) => explain(&error),
            Err(_) => format!(
                "no answer within {:.1} s (the host is down, or a firewall drops the packets)",
                started.elapsed().as_secs_f64()
            ),
        };
        failures.push(format!("{}: {reason}", address.ip()));
    }
    Err(failures.join("; "))
}

/// Whether the kernel has joined the connection to itself. It does so where nothing listens on a local port and the
/// source port happens to be chosen the same; the port would then be called open while its program is down.
fn is_own_end(stream: &TcpStream, address: SocketAddr) -> bool {
    stream.local_addr().is_ok_and(|own| own == address)
}

fn host_problem(host: &str) -> Option<String> {
    if host.parse::<IpAddr>().is_ok() {
        return None;
    }
    let odd = host.chars().find(|c| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '@' | '[' | ']'));
    odd.map(|odd| format!("`{host}` is no host name: it holds `{}`", odd.escape_debug()))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpSocket, TcpStream};
    use tokio::time::{Instant, timeout};

    use super::{answer_by, first_answering, host_problem, is_own_end};

    fn soon() -> Instant {
        answer_by(Duration::from_secs(5))
    }

    /// A port on which nothing listens, and which nobody else is given while the socket lives.
    fn closed_port() -> (TcpSocket, SocketAddr) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    /// A listener whose queue is full: the kernel drops further connection attempts, as a firewall would.
    async fn silent_listener() -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        for _ in 0..16 {
            match timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
                Ok(stream) => queued.push(stream.unwrap()),
                Err(_) => return (listener, queued),
            }
        }
        panic!("the queue of a listener never fills");
    }

    #[tokio::test]
    async fn the_second_address_answers_and_the_first_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let (_socket, closed) = closed_port();
        let connection = first_answering(&[closed, open], soon()).await.unwrap();
        assert_eq!(connection.address, open);
        assert!(connection.detours.contains("127.0.0.1: connection refused"), "{}", connection.detours);
        assert_eq!(first_answering(&[open], soon()).await.unwrap().detours, "");
    }

    #[tokio::test]
    async fn all_reasons_are_named_when_none_answers() {
        let (_socket, closed) = closed_port();
        let reasons = first_answering(&[closed, closed], soon()).await.unwrap_err();
        assert_eq!(reasons.matches("nothing listens on this port").count(), 2, "{reasons}");
    }

    #[tokio::test]
    async fn a_silent_address_uses_only_its_share() {
        let (silent, _queued) = silent_listener().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [silent.local_addr().unwrap(), listener.local_addr().unwrap()];
        let connection = first_answering(&addresses, Instant::now() + Duration::from_secs(2)).await.unwrap();
        assert_eq!(connection.address, addresses[1]);
        assert!(connection.detours.contains("no answer within 1."), "{}", connection.detours);
    }

    #[tokio::test]
    async fn a_connection_to_itself_is_no_open_port() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        let stream = socket.connect(own).await.unwrap();
        assert!(is_own_end(&stream, own));
        assert!(!is_own_end(&stream, "127.0.0.1:1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for host in ["http://x", "db:5432", "a b", "x/y", "me@x", "a\nb"] {
            assert!(host_problem(host).is_some(), "{host}");
        }
        for host in ["localhost", "::1", "fe80::1", "127.0.0.1", "a-b.example.com.", "bücher.example"] {
            assert!(host_problem(host).is_none(), "{host}");
        }
    }

    #[test]
    fn a_reserve_of_the_time_is_kept_for_the_report() {
        let now = Instant::now();
        assert!(answer_by(Duration::from_secs(30)) >= now + Duration::from_millis(29_500));
        assert!(answer_by(Duration::from_secs(30)) < now + Duration::from_millis(29_900));
        assert!(answer_by(Duration::ZERO) < now + Duration::from_secs(1));
    }
}
