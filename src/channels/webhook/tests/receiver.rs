//! A receiver that does what the documents tell receivers to do, and refuses, with the reason, what breaks them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use chrono::Utc;
use ring::hmac;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What it insists on.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) method: &'static str,
    pub(super) content_type: &'static str,
    pub(super) hmac_key: Option<&'static str>,
    pub(super) token: Option<&'static str>,
    /// What is wrong with a body.
    pub(super) body: fn(&[u8]) -> Result<(), String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { method: "POST", content_type: "application/json", hmac_key: None, token: None, body: |_| Ok(()) }
    }
}

/// What it does with a request that keeps the rules.
pub(super) enum Reply {
    /// Takes it, and says so.
    Take,
    /// Takes nothing; these bytes are its answer.
    Answer(String),
    /// Takes nothing, and repeats all that it was sent, below this status line.
    Echo(&'static str),
    /// Takes it, and the connection breaks in the middle of the answer.
    TakeAndCut,
    /// Takes nothing and answers nothing.
    Hang,
}

/// One request that kept the rules.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Default)]
struct Seen {
    script: VecDeque<Reply>,
    requests: Vec<Request>,
    /// By key: how often it came.
    taken: BTreeMap<String, u32>,
}

/// Stops when it is dropped. Takes everything once its script is at its end.
pub(super) struct Receiver {
    port: u16,
    seen: Arc<Mutex<Seen>>,
    /// Notified when a request was read whole.
    pub(super) has_request: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub(super) async fn start(rules: Rules, script: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen { script: script.into_iter().collect(), ..Seen::default() }));
        let has_request = Arc::new(Notify::new());
        let (shared, notify) = (seen.clone(), has_request.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, rules.clone(), shared.clone(), notify.clone()));
            }
        });
        Self { port, seen, has_request, task }
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A channel's URL to it; `rest` begins with the path.
    pub(super) fn url(&self, rest: &str) -> String {
        format!("webhook+http://{}{rest}", self.address())
    }

    /// All requests that kept the rules.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().requests.clone()
    }

    /// How many messages it took, and how many came again after that.
    pub(super) fn taken_and_doubled(&self) -> (usize, u32) {
        let seen = self.seen.lock().unwrap();
        (seen.taken.len(), seen.taken.values().map(|count| count - 1).sum())
    }
}

async fn serve(mut stream: TcpStream, rules: Rules, seen: Arc<Mutex<Seen>>, has_request: Arc<Notify>) {
    let Some((head, body)) = read(&mut stream).await else { return };
    let answer = match check(&head, body, &rules) {
        Err((status, problem)) => answer(status, "", &problem),
        Ok(request) => {
            let echo = format!("{head}\r\n\r\n{}", String::from_utf8_lossy(&request.body));
            let reply = take(&mut seen.lock().unwrap(), request);
            has_request.notify_one();
            match reply {
                Reply::Take => answer("200 OK", "", "taken"),
                Reply::Answer(bytes) => bytes,
                Reply::Echo(status) => answer(status, "", &echo),
                Reply::TakeAndCut => "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf of it".to_owned(),
                Reply::Hang => {
                    drop(stream.read(&mut [0]).await);
                    return;
                }
            }
        }
    };
    drop(stream.write_all(answer.as_bytes()).await);
    drop(stream.shutdown().await);
}

fn take(seen: &mut Seen, request: Request) -> Reply {
    let reply = seen.script.pop_front().unwrap_or(Reply::Take);
    if matches!(reply, Reply::Take | Reply::TakeAndCut) {
        *seen.taken.entry(request.headers["idempotency-key"].clone()).or_default() += 1;
    }
    seen.requests.push(request);
    reply
}

/// A whole answer; `headers` each end with `\r\n`.
pub(super) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

async fn read(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if bytes.len() - end - 4 >= length.unwrap_or(0) {
            return Some((head, bytes[end + 4..].to_vec()));
        }
    }
}

type Refusal = (&'static str, String);

fn check(head: &str, body: Vec<u8>, rules: &Rules) -> Result<Request, Refusal> {
    let bad = |problem: &str| ("400 Bad Request", problem.to_owned());
    let mut lines = head.lines();
    let [method, path, "HTTP/1.1"] = lines.next().unwrap().split(' ').collect::<Vec<_>>()[..] else {
        return Err(bad("no request line"));
    };
    let mut headers = BTreeMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or_else(|| bad("no header"))?;
        if headers.insert(name.to_ascii_lowercase(), value.to_owned()).is_some() {
            return Err(bad(&format!("`{name}` twice")));
        }
    }
    let header = |name: &str| headers.get(name).map_or("", String::as_str);
    if method != rules.method {
        return Err(("405 Method Not Allowed", method.to_owned()));
    }
    if header("content-type") != rules.content_type {
        return Err(("415 Unsupported Media Type", header("content-type").to_owned()));
    }
    if header("content-length") != body.len().to_string() {
        return Err(bad("content-length is not the body's"));
    }
    uuid::Uuid::parse_str(header("idempotency-key")).map_err(|_| bad("Idempotency-Key is no uuid"))?;
    if rules.token.is_some_and(|token| header("authorization") != format!("Bearer {token}")) {
        return Err(("401 Unauthorized", "wrong token".to_owned()));
    }
    match rules.hmac_key {
        Some(key) => verify(key, header("x-watchbell-timestamp"), header("x-watchbell-signature"), &body)
            .map_err(|problem| ("401 Unauthorized", problem))?,
        None if headers.contains_key("x-watchbell-signature") => return Err(bad("signed without being asked")),
        None => {}
    }
    (rules.body)(&body).map_err(|problem| bad(&problem))?;
    Ok(Request { path: path.to_owned(), headers, body })
}

/// The documented recipe, step by step.
fn verify(key: &str, timestamp: &str, signature: &str, body: &[u8]) -> Result<(), String> {
    let seconds: i64 = timestamp.parse().map_err(|_| "no timestamp".to_owned())?;
    if (Utc::now().timestamp() - seconds).abs() > 300 {
        return Err("an old timestamp".to_owned());
    }
    let digits = signature.strip_prefix("v1=").ok_or("no signature of version 1")?;
    if digits.len() != 64 || !digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("the signature is not 64 hex digits".to_owned());
    }
    let tag: Vec<u8> = (0..64).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
    let signed = [timestamp.as_bytes(), b".", body].concat();
    // In constant time, as ring does it.
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), &signed, &tag)
        .map_err(|_| "the signature is another one".to_owned())
}
