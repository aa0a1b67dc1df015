//! A receiver of webhooks: answers as it is told to, and keeps what it got.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

struct Shared {
    status: Mutex<u16>,
    slowness: Mutex<Duration>,
    got: Mutex<Vec<Value>>,
    is_over: AtomicBool,
}

/// On a port of its own until it is dropped.
pub(super) struct Receiver {
    pub(super) port: u16,
    shared: Arc<Shared>,
}

impl Receiver {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            status: Mutex::new(200),
            slowness: Mutex::new(Duration::ZERO),
            got: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let served = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if served.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let served = served.clone();
                std::thread::spawn(move || serve(stream, &served));
            }
        });
        Self { port, shared }
    }

    /// From now on it answers so; what it refuses it does not keep.
    pub(super) fn answer(&self, status: u16) {
        *self.shared.status.lock().unwrap() = status;
    }

    /// From now on it takes so long to answer.
    pub(super) fn take(&self, slowness: Duration) {
        *self.shared.slowness.lock().unwrap() = slowness;
    }

    /// What it took, in order.
    pub(super) fn got(&self) -> Vec<Value> {
        self.shared.got.lock().unwrap().clone()
    }

    /// The INSERT of a channel that posts here.
    pub(super) fn channel(&self, name: &str) -> String {
        let url = format!("webhook+http://127.0.0.1:{}/hunter2-in-the-path#token=hunter2", self.port);
        format!("INSERT INTO channels (name, url) VALUES ('{name}', '{url}');")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts, so that it sees that it is over.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut length = 0;
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if line == "\r\n" => break,
            Ok(_) => {
                let (name, value) = line.split_once(':').unwrap_or((&line, ""));
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().unwrap();
                }
            }
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    std::thread::sleep(*shared.slowness.lock().unwrap());
    let status = *shared.status.lock().unwrap();
    if status == 200 {
        shared.got.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
    }
    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 5\r\nconnection: close\r\n\r\nnoted");
    // A client that has gone has what it wanted.
    drop(stream.write_all(answer.as_bytes()));
}
