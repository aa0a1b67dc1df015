//! Asking name servers, one after the other, and telling their answers and failures apart.
//!
//! The servers are asked directly, below the resolver's cache, its hosts file, its search domains and its local
//! answers for special names: a check wants to know what the server says now.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use tokio::time::{Instant, timeout_at};

use super::value::Value;
use crate::connect::explain;

/// How many of the system's name servers are asked: as many as the C library asks.
const MAX_SERVERS: usize = 3;

/// How the question travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// UDP, and TCP where the answer does not fit.
    Any,
    Udp,
    Tcp,
}

/// What a name server says. The first that says one of these ends the asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Records of the type; never empty.
    Values(Vec<Value>),
    /// The name exists, without a record of the type.
    NoRecord,
    /// As before, but it is an alias for this name, which the server did not follow.
    AliasOnly(Value),
    /// There is no such name.
    NoSuchName,
}

/// An answer, and who gave it.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) answer: Answer,
    pub(super) server: SocketAddr,
    /// Who was asked before and did not answer, each with the reason.
    pub(super) failures: Vec<String>,
}

/// Nobody could be asked, or nobody gave an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("the system's name servers are not known from `/etc/resolv.conf`: {reason}; set `resolver`")]
    NoSystemServers { reason: String },
    #[error("the servers to ask cannot be read from `/etc/resolv.conf`")]
    BrokenOff(#[from] tokio::task::JoinError),
    #[error("{0}")]
    NoneAnswers(String),
}

/// Asks `resolver`, or the system's name servers in their order, for records of one type.
pub(super) async fn ask(
    name: &Name,
    record_type: RecordType,
    resolver: Option<SocketAddr>,
    transport: Transport,
    deadline: Instant,
) -> Result<Answered, Unanswered> {
    let servers = match resolver {
        Some(server) => vec![server],
        None => system_servers().await?,
    };
    ask_in_turn(name, record_type, &servers, transport, deadline).await
}

/// Asks each server until one gives an answer. Each gets an equal share of what time is left.
pub(super) async fn ask_in_turn(
    name: &Name,
    record_type: RecordType,
    servers: &[SocketAddr],
    transport: Transport,
    deadline: Instant,
) -> Result<Answered, Unanswered> {
    let mut failures = Vec::new();
    for (index, &server) in servers.iter().enumerate() {
        let now = Instant::now();
        let untried = u32::try_from(servers.len() - index).unwrap_or(u32::MAX);
        let until = now + deadline.saturating_duration_since(now) / untried;
        match ask_one(name, record_type, server, transport, until).await {
            Ok(answer) => return Ok(Answered { answer, server, failures }),
            Err(failure) => failures.push(format!("{server} {failure}")),
        }
    }
    Err(Unanswered::NoneAnswers(failures.join("; ")))
}

async fn system_servers() -> Result<Vec<SocketAddr>, Unanswered> {
    let config = tokio::task::spawn_blocking(hickory_resolver::system_conf::read_system_conf).await?;
    let (config, _) = config.map_err(|error| Unanswered::NoSystemServers { reason: error.to_string() })?;
    Ok(config.name_servers().iter().take(MAX_SERVERS).map(|server| SocketAddr::new(server.ip, 53)).collect())
}

/// Asks one server. A failure is a text that follows on the server's address.
async fn ask_one(
    name: &Name,
    record_type: RecordType,
    server: SocketAddr,
    transport: Transport,
    until: Instant,
) -> Result<Answer, String> {
    let started = Instant::now();
    let timed_out =
        || format!("does not answer within {:.1} s ({})", started.elapsed().as_secs_f64(), silence(transport));
    let mut options = ResolverOpts::default();
    options.timeout = until.saturating_duration_since(started);
    let tls = TlsConfig::new().map_err(|error| format!("cannot be asked: {error}"))?;
    let context = Arc::new(PoolContext::new(options, tls));
    let config = NameServerConfig::new(server.ip(), true, connections(transport, server.port()));
    let pool = NameServerPool::from_config([config], context, TokioRuntimeProvider::default());

    let question = Query::query(name.clone(), record_type);
    let asked = pool.lookup(question, DnsRequestOptions::default());
    let response = match timeout_at(until, asked.first_answer()).await {
        Err(_) => return Err(timed_out()),
        Ok(Err(NetError::Timeout)) => return Err(timed_out()),
        Ok(Err(NetError::Dns(error))) => return without_records(&error),
        Ok(Err(error)) => return Err(explain_network(&error)),
        Ok(Ok(response)) => response,
    };
    let values = |wanted| response.answers.iter().filter(move |record| record.record_type() == wanted);
    let found: Vec<_> = values(record_type).filter_map(|record| Value::found(&record.data)).collect();
    if !found.is_empty() {
        return Ok(Answer::Values(found));
    }
    match response.response_code {
        ResponseCode::NXDomain => Ok(Answer::NoSuchName),
        ResponseCode::NoError => {
            let alias = values(RecordType::CNAME).filter_map(|record| Value::found(&record.data)).next_back();
            Ok(alias.map_or(Answer::NoRecord, Answer::AliasOnly))
        }
        code => Err(refusal(code)),
    }
}

fn connections(transport: Transport, port: u16) -> Vec<ConnectionConfig> {
    let mut connections = match transport {
        Transport::Any => vec![ConnectionConfig::udp(), ConnectionConfig::tcp()],
        Transport::Udp => vec![ConnectionConfig::udp()],
        Transport::Tcp => vec![ConnectionConfig::tcp()],
    };
    for connection in &mut connections {
        connection.port = port;
    }
    connections
}

fn without_records(error: &DnsError) -> Result<Answer, String> {
    match error {
        DnsError::NoRecordsFound(none) => match none.response_code {
            ResponseCode::NXDomain => Ok(Answer::NoSuchName),
            ResponseCode::NoError => Ok(Answer::NoRecord),
            code => Err(refusal(code)),
        },
        DnsError::ResponseCode(code) => Err(refusal(*code)),
        other => Err(format!("fails: {other}")),
    }
}

fn refusal(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => {
            "fails (SERVFAIL): the servers of the zone do not answer it, or the zone's DNSSEC is broken".into()
        }
        ResponseCode::Refused => {
            "refuses (REFUSED): it is not responsible for the name, or does not serve this machine".into()
        }
        other => format!("answers with an error: {other}"),
    }
}

fn explain_network(error: &NetError) -> String {
    match error {
        // The pool says only this when a connection was refused, or the network knows no way.
        NetError::NoConnections => {
            "cannot be connected to (nothing listens on this port, or this machine has no way to it)".into()
        }
        NetError::Io(error) => format!("cannot be reached: {}", explain(error)),
        NetError::Truncated => {
            "gives an answer that is too long for UDP (leave out `protocol`, or set it to `tcp`)".into()
        }
        NetError::Proto(error) => format!("answers with what is no DNS: {error}"),
        other => format!("cannot be asked: {other}"),
    }
}

fn silence(transport: Transport) -> &'static str {
    match transport {
        // Without a connection, a closed port is as silent as a dead host.
        Transport::Any | Transport::Udp => "it is down, nothing listens there, or a firewall drops the packets",
        Transport::Tcp => "it is down, hangs, or a firewall drops the packets",
    }
}
