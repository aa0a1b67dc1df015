//! A small HTTP server on loopback for services that take JSON: it reads each request whole, and answers with what the
//! service under it says, or hangs up without an answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const MAX_REQUEST_BYTES: usize = 4 << 20;

pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn json(&self) -> Option<Value> {
        let kind = self.headers.get("content-type")?;
        if kind.split(';').next()?.trim() != "application/json" {
            return None;
        }
        serde_json::from_str(&self.body).ok()
    }
}

pub(crate) enum Reply {
    Answer {
        status: u16,
        retry_after: Option<u64>,
        body: String,
    },
    /// The service did its work, and the connection broke before the answer.
    Lost,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Reply::Answer { status, retry_after: None, body: body.to_string() }
    }

    pub(crate) fn text(status: u16, body: impl Into<String>) -> Self {
        Reply::Answer { status, retry_after: None, body: body.into() }
    }
}

/// Stops when it is dropped.
pub(crate) struct JsonServer {
    pub(crate) address: String,
    task: JoinHandle<()>,
}

impl Drop for JsonServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl JsonServer {
    pub(crate) async fn start(serve: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let serve: Arc<dyn Fn(&Request) -> Reply + Send + Sync> = Arc::new(serve);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serve = serve.clone();
                tokio::spawn(async move { answer(stream, serve.as_ref()).await });
            }
        });
        Self { address, task }
    }
}

async fn answer(mut stream: TcpStream, serve: &(dyn Fn(&Request) -> Reply + Send + Sync)) {
    let Some(request) = read(&mut stream).await else { return };
    let Reply::Answer { status, retry_after, body } = serve(&request) else { return };
    let retry_after = retry_after.map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
    let length = body.len();
    let head = format!("HTTP/1.1 {status} S\r\nconnection: close\r\ncontent-length: {length}\r\n{retry_after}\r\n");
    // A client that left early has its own view of it.
    drop(stream.write_all(format!("{head}{body}").as_bytes()).await);
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        if let Some(request) = parse(&bytes) {
            return Some(request);
        }
        let read = stream.read_buf(&mut bytes).await.ok()?;
        if read == 0 || bytes.len() > MAX_REQUEST_BYTES {
            return None;
        }
    }
}

/// `None` until all of it is there.
fn parse(bytes: &[u8]) -> Option<Request> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let body = bytes.get(end + 4..end + 4 + length)?;
    Some(Request { method, path, headers, body: String::from_utf8(body.to_vec()).ok()? })
}
