//! One connection to a Redis server: where to, over what, and how long it may be used.
//!
//! The `redis` crate speaks the protocol over a stream that is made here, so that TLS trusts whom all channels trust and
//! the server cannot make us read without end. Logging in is done here too: the crate calls every refusal of it a wrong
//! password, and a server that has too many clients refuses as well.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, RedisConnectionInfo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, join, split};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::failure::Failure;

/// To connect, agree on TLS and log in, together.
const CONNECT_PATIENCE: Duration = Duration::from_secs(8);
/// For the answer to one command.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// A firewall forgets a connection that says nothing; a new one costs less than an alert sent into the void.
const LONGEST_IDLE: Duration = Duration::from_secs(60);
/// How many messages go over one connection, and what the server may say on it: an answer has less than 100 bytes.
const MOST_MESSAGES: u32 = 1_000;
const MOST_ANSWER_BYTES: u64 = 1024 * 1024;

const DEFAULT_PORT: u16 = 6379;

/// Where to, with the password: made for one connection, and gone after it.
pub(super) struct Target {
    is_tls: bool,
    host: String,
    port: u16,
    user: String,
    password: String,
    database: u32,
}

impl Target {
    /// Reads `redis://user:password@host:port/database`; `rediss` is over TLS. The error quotes nothing of it.
    pub(super) fn read(url: &str) -> Result<Self, &'static str> {
        let url = url::Url::parse(url).map_err(|_| "is no URL")?;
        let is_tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err("begins with neither `redis://` nor `rediss://`"),
        };
        let host = match url.host() {
            Some(url::Host::Ipv6(address)) => address.to_string(),
            Some(host) => decode(&host.to_string())?,
            None => return Err("names no host"),
        };
        let database = match url.path().trim_matches('/') {
            "" => 0,
            number => number.parse().map_err(|_| "has a path that is no number of a database")?,
        };
        let (user, password) = (decode(url.username())?, decode(url.password().unwrap_or_default())?);
        if password.is_empty() && !user.is_empty() {
            return Err("has a user and no password (a password alone is `:password@`)");
        }
        Ok(Self { is_tls, host, port: url.port().unwrap_or(DEFAULT_PORT), user, password, database })
    }

    /// What must not be shown.
    pub(super) fn secrets(&self) -> [&str; 1] {
        [&self.password]
    }

    fn log_in(&self) -> Option<Cmd> {
        let mut command = redis::cmd("AUTH");
        match (self.user.is_empty(), self.password.is_empty()) {
            (_, true) => return None,
            (true, false) => command.arg(&self.password),
            (false, false) => command.arg(&self.user).arg(&self.password),
        };
        Some(command)
    }
}

fn decode(text: &str) -> Result<String, &'static str> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.map(String::from).map_err(|_| "holds percent-encoded bytes that are no text")
}

/// An open connection, logged in.
pub(super) struct Connection {
    redis: MultiplexedConnection,
    /// Moves bytes; ends when the server goes away.
    driver: AbortOnDropHandle<()>,
    used_at: Instant,
    messages: u32,
}

impl Connection {
    /// Connects and logs in.
    pub(super) async fn open(target: &Target, tls: &ClientConfig) -> Result<Self, Failure> {
        timeout(CONNECT_PATIENCE, Self::open_patiently(target, tls)).await.map_err(|_| Failure::TooSlow)?
    }

    async fn open_patiently(target: &Target, tls: &ClientConfig) -> Result<Self, Failure> {
        let stream = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(Failure::Stream)?;
        let mut connection = if target.is_tls {
            let name = ServerName::try_from(target.host.clone())
                .map_err(|_| Failure::Address("names a host that no certificate can be for"))?;
            let connector = TlsConnector::from(std::sync::Arc::new(tls.clone()));
            Self::over(connector.connect(name, stream).await.map_err(Failure::Stream)?).await?
        } else {
            Self::over(stream).await?
        };
        if let Some(command) = target.log_in() {
            let () = connection.ask(&command).await?;
        }
        if target.database != 0 {
            let () = connection.ask(redis::cmd("SELECT").arg(target.database)).await?;
        }
        Ok(connection)
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, Failure> {
        let (read, write) = split(stream);
        let stream = join(read.take(MOST_ANSWER_BYTES), write);
        // Without what the crate would say first: see the module's words on logging in.
        let greeting = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(&greeting, stream, config).await;
        let (redis, driver) = made.map_err(Failure::Redis)?;
        let driver = AbortOnDropHandle::new(tokio::spawn(driver));
        Ok(Self { redis, driver, used_at: Instant::now(), messages: 0 })
    }

    /// Whether it can be expected to work.
    pub(super) fn is_good(&self) -> bool {
        !self.driver.is_finished() && self.used_at.elapsed() < LONGEST_IDLE && self.messages < MOST_MESSAGES
    }

    /// Sends one command and reads its answer.
    pub(super) async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, Failure> {
        self.messages += 1;
        let answer = timeout(ANSWER_PATIENCE, command.query_async(&mut self.redis)).await;
        self.used_at = Instant::now();
        answer.map_err(|_| Failure::TooSlow)?.map_err(Failure::Redis)
    }
}
