//! A small HTTP server: it notes each request and answers with the bytes that the test gives.

use std::io::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

const KEEP_ALIVE: &[u8] = b"connection: keep-alive\r\n";

/// What the server does with a request.
pub(super) enum Reply {
    Bytes(Vec<u8>),
    Late(Duration, Vec<u8>),
    /// These bytes, then nothing: the connection stays open.
    Hang(Vec<u8>),
}

/// Stops when it is dropped.
pub(super) struct Server {
    pub(super) port: u16,
    scheme: &'static str,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    /// Notified when a client has left a reply that hangs.
    pub(super) left: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Handler = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

impl Server {
    /// Answers each request with what `reply` gives for its path.
    pub(super) async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen([127, 0, 0, 1].into(), None, Arc::new(reply)).await
    }

    /// The same on any address.
    pub(super) async fn start_at(address: IpAddr, reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(address, None, Arc::new(reply)).await
    }

    /// The same over TLS.
    pub(super) async fn start_tls(identity: &Identity, reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen([127, 0, 0, 1].into(), Some(identity.acceptor(&[])), Arc::new(reply)).await
    }

    /// Answers everything alike.
    pub(super) async fn always(reply: impl Into<Vec<u8>>) -> Self {
        let reply = reply.into();
        Self::start(move |_| Reply::Bytes(reply.clone())).await
    }

    async fn listen(address: IpAddr, acceptor: Option<TlsAcceptor>, reply: Handler) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let left = Arc::new(Notify::new());
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let noted = (requests.clone(), left.clone());
        let counted = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let (acceptor, reply, (requests, left)) = (acceptor.clone(), reply.clone(), noted.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, reply, &requests, &left).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, reply, &requests, &left).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, scheme, requests, connections, left, task }
    }

    pub(super) fn url(&self, path: &str) -> String {
        self.url_at("127.0.0.1", path)
    }

    pub(super) fn url_at(&self, host: &str, path: &str) -> String {
        format!("{}://{host}:{}{path}", self.scheme, self.port)
    }

    /// How many connections were taken up so far.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// All requests so far, head and body, with header names in lower case as they came.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    reply: Handler,
    requests: &Mutex<Vec<String>>,
    left: &Notify,
) {
    // A connection is kept for the next request where the reply says so.
    while let Some(request) = read_request(&mut stream).await {
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        requests.lock().unwrap().push(request);
        let (bytes, hangs) = match reply(&path) {
            Reply::Bytes(bytes) => (bytes, false),
            Reply::Late(delay, bytes) => {
                tokio::time::sleep(delay).await;
                (bytes, false)
            }
            Reply::Hang(bytes) => (bytes, true),
        };
        // A client that has enough goes away in the middle of a body; that is its right.
        drop(stream.write_all(&bytes).await);
        drop(stream.flush().await);
        if hangs {
            drop(stream.read(&mut [0; 1]).await);
            left.notify_one();
            return;
        }
        if !bytes.windows(KEEP_ALIVE.len()).any(|window| window == KEEP_ALIVE) {
            break;
        }
    }
    drop(stream.shutdown().await);
}

/// The head and as much body as its `content-length` says.
async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return Some(text);
        }
    }
}

/// A whole answer with the body's length.
pub(super) fn answer(status: &str, body: &str) -> Vec<u8> {
    answer_with(status, "", body)
}

/// The same with more header lines, each ended by `\r\n`.
pub(super) fn answer_with(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes()
}

pub(super) fn redirect(status: &str, location: &str) -> Vec<u8> {
    answer_with(status, &format!("location: {location}\r\n"), "")
}

/// A CA and a server certificate that it signed.
pub(super) struct Identity {
    certificate: rcgen::Certificate,
    key: rcgen::KeyPair,
    /// The CA's certificate, for `ca_file`.
    pub(super) ca_file: tempfile::NamedTempFile,
}

impl Identity {
    /// For a name or address, valid for so many days from now, and an hour.
    pub(super) fn new(name: &str, days: i64) -> Self {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let mut ca_file = tempfile::NamedTempFile::new().unwrap();
        ca_file.write_all(ca.self_signed(&ca_key).unwrap().pem().as_bytes()).unwrap();
        let issuer = rcgen::Issuer::new(ca, ca_key);

        let key = rcgen::KeyPair::generate().unwrap();
        let mut server = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        // The hour keeps what is left above the whole number while the test runs.
        let end = chrono::Utc::now() + chrono::TimeDelta::days(days) + chrono::TimeDelta::hours(1);
        let start_of_time = rcgen::date_time_ymd(1970, 1, 1);
        server.not_after = start_of_time + Duration::from_secs(u64::try_from(end.timestamp()).unwrap());
        server.not_before = rcgen::date_time_ymd(2020, 1, 1);
        let certificate = server.signed_by(&key, &issuer).unwrap();
        Self { certificate, key, ca_file }
    }

    pub(super) fn ca_path(&self) -> &str {
        self.ca_file.path().to_str().unwrap()
    }

    /// A server that offers these protocols.
    pub(super) fn acceptor(&self, protocols: &[&str]) -> TlsAcceptor {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}
