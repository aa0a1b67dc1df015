//! What the demo watches: a web server in this process, on loopback, that breaks and heals on command.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request that is not there after this long is not waited for.
const TIME_FOR_ONE: Duration = Duration::from_secs(5);
/// A request's head is read up to here; the monitor's has some hundred bytes.
const MOST_HEAD_BYTES: usize = 8 * 1024;
/// Before the next try, where a connection cannot be accepted.
const AFTER_A_FAULT: Duration = Duration::from_millis(100);

/// The server; it ends when this is dropped.
pub(super) struct Target {
    address: SocketAddr,
    is_broken: Arc<AtomicBool>,
    serving: JoinHandle<()>,
}

impl Target {
    /// Listens on a port that the system chooses.
    ///
    /// # Errors
    /// When no port can be had on loopback.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen on a port of 127.0.0.1")?;
        let address = listener.local_addr().context("cannot find out the port")?;
        let is_broken = Arc::new(AtomicBool::new(false));
        let serving = tokio::spawn(serve(listener, is_broken.clone()));
        Ok(Self { address, is_broken, serving })
    }

    /// Its port.
    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on it answers with an error, or no longer.
    pub(super) fn set_broken(&self, is_broken: bool) {
        self.is_broken.store(is_broken, Ordering::Relaxed);
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, is_broken: Arc<AtomicBool>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let is_broken = is_broken.clone();
                // One that hangs or goes away harms only itself.
                tokio::spawn(tokio::time::timeout(TIME_FOR_ONE, async move { answer(stream, &is_broken).await.ok() }));
            }
            Err(_) => tokio::time::sleep(AFTER_A_FAULT).await,
        }
    }
}

async fn answer(mut stream: TcpStream, is_broken: &AtomicBool) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MOST_HEAD_BYTES {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) = match is_broken.load(Ordering::Relaxed) {
        false => ("200 OK", "open\n"),
        true => ("503 Service Unavailable", "the database of the shop does not answer\n"),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
