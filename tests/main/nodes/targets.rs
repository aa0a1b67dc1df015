//! What the monitors look at: an HTTP server whose answers are set by the test, and which writes down each request.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use super::now;
use crate::support::sql::block_on;

/// A request is a few lines.
const REQUEST_BYTES: usize = 16 * 1024;

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// In ms since 1970.
    pub(crate) at: i64,
    /// The path without its first `/`.
    pub(crate) name: String,
    /// What it was answered, or will be.
    pub(crate) is_ok: bool,
}

#[derive(Default)]
struct Script {
    failing: HashMap<String, bool>,
    slow: HashMap<String, Duration>,
    requests: Vec<Request>,
}

/// See the module. It has a thread of its own.
pub(crate) struct Targets {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    runtime: Option<Runtime>,
}

impl Targets {
    pub(crate) fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let script = Arc::<Mutex<Script>>::default();
        let (handle, listened) = (runtime.handle().clone(), Arc::clone(&script));
        let address = block_on(async move {
            let listening = handle.spawn(async { TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap() });
            let listener = listening.await.unwrap();
            let address = listener.local_addr().unwrap();
            handle.spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(answer(client, Arc::clone(&listened)));
                }
            });
            address
        });
        Self { address, script, runtime: Some(runtime) }
    }

    /// The URL that answers for `name`.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// From now on `name` is down, or up again.
    pub(crate) fn set_failing(&self, name: &str, is_failing: bool) {
        self.lock().failing.insert(name.to_owned(), is_failing);
    }

    /// From now on `name` takes so long to answer.
    pub(crate) fn set_slow(&self, name: &str, delay: Duration) {
        self.lock().slow.insert(name.to_owned(), delay);
    }

    /// All that came so far, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.lock().requests.clone()
    }

    /// How many came for `name`.
    pub(crate) fn requests_for(&self, name: &str) -> usize {
        self.lock().requests.iter().filter(|request| request.name == name).count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Answers one request. The client may be gone before, which is nobody's fault here.
async fn answer(mut client: TcpStream, script: Arc<Mutex<Script>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && request.len() < REQUEST_BYTES {
        match client.read_buf(&mut request).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let text = String::from_utf8_lossy(&request);
    let name = text.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let (is_ok, delay) = {
        let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ok = !script.failing.get(&name).copied().unwrap_or_default();
        let delay = script.slow.get(&name).copied();
        script.requests.push(Request { at: now(), name, is_ok });
        (is_ok, delay)
    };
    tokio::time::sleep(delay.unwrap_or_default()).await;
    let status = if is_ok { "200 OK" } else { "503 Service Unavailable" };
    let reply = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    client.write_all(reply.as_bytes()).await.ok();
    client.shutdown().await.ok();
}
