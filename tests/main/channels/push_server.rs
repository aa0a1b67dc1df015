//! A small HTTP server for the channels that post JSON, and what their tests need around it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use chrono::DateTime;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use watchbell::channels::{ChannelSettings, find, open};
use watchbell::domain::{Facts, IncidentId, MonitorId, NotificationId, NotificationType, OutboxRow, State};
use watchbell::ports::{Channel, Delivered, DeliveryError};
use watchbell_contract::{SecretError, SecretReference, Secrets, Severity, async_trait};

/// One request, read whole.
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query, as they came.
    pub(crate) target: String,
    headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    /// A header by its name in lower case; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON, where it is some and says that it is.
    pub(crate) fn json(&self) -> Option<Value> {
        let is_json = self.header("content-type").split(';').next() == Some("application/json");
        is_json.then(|| serde_json::from_str(&self.body).ok()).flatten()
    }
}

/// A status, further header lines, a body.
#[derive(Clone)]
pub(crate) struct Reply(pub(crate) u16, pub(crate) Vec<(&'static str, String)>, pub(crate) String);

impl Reply {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self(status, vec![("content-type", "application/json".to_owned())], body.to_string())
    }

    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self(status, Vec::new(), body.to_owned())
    }
}

/// A service: what it refuses is its protocol's, not the test's.
pub(crate) trait Service: Send + 'static {
    fn answer(&mut self, request: &Request) -> Reply;
}

/// Runs a service on a port of its own until it is dropped.
pub(crate) struct Server<S> {
    pub(crate) port: u16,
    service: Arc<Mutex<S>>,
    task: JoinHandle<()>,
}

impl<S> Drop for Server<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<S: Service> Server<S> {
    pub(crate) async fn start(service: S) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = Arc::new(Mutex::new(service));
        let served = service.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, served.clone()));
            }
        });
        Self { port, service, task }
    }

    /// Looks at the service, or changes what it will do.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut S) -> T) -> T {
        look(&mut self.service.lock().unwrap())
    }
}

async fn serve<S: Service>(mut stream: TcpStream, service: Arc<Mutex<S>>) {
    let Some(request) = read(&mut stream).await else { return };
    let Reply(status, headers, body) = service.lock().unwrap().answer(&request);
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!("HTTP/1.1 {status} -\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
    // A client that has gone has what it wanted.
    drop(stream.write_all(format!("{head}{body}").as_bytes()).await);
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 16_384];
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let mut first = lines.next().unwrap().split(' ').map(ToOwned::to_owned);
        let headers: HashMap<_, _> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse::<usize>().unwrap());
        let body = &bytes[end + 4..];
        if body.len() >= length {
            let body = String::from_utf8(body.to_vec()).unwrap();
            return Some(Request { method: first.next()?, target: first.next()?, headers, body });
        }
    }
}

/// Every reference stands for one planted value.
struct Planted(String);

#[async_trait]
impl Secrets for Planted {
    fn permit(&self, _reference: &SecretReference) -> Result<(), SecretError> {
        Ok(())
    }

    async fn resolve(&self, _reference: &SecretReference) -> Result<String, SecretError> {
        Ok(self.0.clone())
    }
}

/// None of these channels is mail.
struct NoMail;

#[async_trait]
impl Channel for NoMail {
    async fn deliver(&self, _message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        Err(DeliveryError::Permanent { reason: "no mail here".to_owned() })
    }

    fn describe(&self) -> String {
        "no mail".to_owned()
    }
}

/// The settings of an installation in which each reference resolves to `secret`.
pub(crate) fn settings(secret: &str) -> ChannelSettings {
    ChannelSettings {
        secrets: Arc::new(Planted(secret.to_owned())),
        public_url: Some("https://wb.x.test".to_owned()),
        ca_file: None,
        mail: Arc::new(NoMail),
    }
}

/// A channel of a row's `url`.
pub(crate) fn channel(url: &str, secret: &str) -> Arc<dyn Channel> {
    open(url, &settings(secret)).unwrap_or_else(|faults| panic!("{faults}"))
}

/// Opens each example of a type, as people would copy it.
pub(crate) fn examples_open(name: &str) {
    let examples = find(name).unwrap().examples;
    assert!(!examples.is_empty());
    for example in examples {
        channel(example, "x");
    }
}

/// What is wrong with a `url`, in one text.
pub(crate) fn faults(url: &str) -> String {
    open(url, &settings("x")).map(drop).unwrap_err().to_string()
}

/// The first alert of an incident, critical.
pub(crate) fn alert() -> OutboxRow {
    let uuid = "0d0a4f6e-8f0c-4d0b-9b1e-2f3a4b5c6d7e".to_owned();
    let at = DateTime::from_timestamp(1_795_294_800, 0);
    OutboxRow {
        id: NotificationId(1),
        thread_uuid: uuid.clone(),
        uuid,
        monitor_id: Some(MonitorId(7)),
        monitor_uuid: Some("5f0c7a10-1111-4222-8333-444455556666".to_owned()),
        incident_id: Some(IncidentId(3)),
        incident_uuid: Some("7a3e1c52-9999-4aaa-8bbb-ccccddddeeee".to_owned()),
        thread_external_id: None,
        edits_external_id: None,
        notification_type: NotificationType::Alert,
        severity: Severity::Critical,
        recipient: "phone".to_owned(),
        subject: "[Monitor ALERT] Orders".to_owned(),
        body: "Monitor: Orders\n\nnothing came since noon\n".to_owned(),
        facts: Facts {
            monitor_name: "Orders".to_owned(),
            state: Some(State::Alert),
            at,
            opened_at: at,
            message: "nothing came since noon".to_owned(),
            ..Facts::default()
        },
        attempts: 1,
        created_at: DateTime::from_timestamp(1_795_294_800, 0).unwrap(),
    }
}

/// The same with other words of the child's.
pub(crate) fn saying(message: &str) -> OutboxRow {
    let mut row = alert();
    row.facts.message = message.to_owned();
    row
}

/// The recovery of that incident; its alert never arrived.
pub(crate) fn late_recovery() -> OutboxRow {
    let mut row = alert();
    row.notification_type = NotificationType::Recovery;
    row.facts.tells_alert = true;
    row.facts.recovered_at = row.facts.opened_at.map(|at| at + chrono::TimeDelta::minutes(6));
    row
}

/// What a message of these rows says when it tells of both ends.
pub(crate) const DOWN_SPAN: &str = "was down from 2026-11-21 21:00:00 to 2026-11-21 21:06:00 UTC";

/// The reason and the wait of a failure that a person or time will mend.
pub(crate) fn unavailable(result: Result<Delivered, DeliveryError>) -> (String, Option<std::time::Duration>) {
    match result {
        Err(DeliveryError::Unavailable { reason, after }) => (reason, after),
        other => panic!("{other:?}"),
    }
}

/// The reason of a failure for good.
pub(crate) fn permanent(result: Result<Delivered, DeliveryError>) -> String {
    match result {
        Err(DeliveryError::Permanent { reason }) => reason,
        other => panic!("{other:?}"),
    }
}
