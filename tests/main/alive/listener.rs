//! What is outside: a small HTTP server that takes whatever comes and remembers it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Answers 200 to everything. Its thread ends with the process of the tests.
#[derive(Clone)]
pub(super) struct Listener {
    port: u16,
    heard: Arc<Mutex<Vec<Heard>>>,
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    /// `GET /path`.
    pub(super) what: String,
    /// The body.
    pub(super) body: String,
}

impl Listener {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let started = Self { port: listener.local_addr().unwrap().port(), heard: Arc::default() };
        let heard = started.heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let heard = heard.clone();
                // What breaks off is none: a node may be stopped in the middle.
                std::thread::spawn(move || drop(serve(stream, &heard)));
            }
        });
        started
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What came to a path so far.
    pub(super) fn heard(&self, path: &str) -> Vec<Heard> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|heard| heard.what.ends_with(&format!(" {path}"))).cloned().collect()
    }
}

fn serve(stream: TcpStream, heard: &Mutex<Vec<Heard>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let what = first.rsplit_once(' ').map_or("", |(what, _)| what).to_owned();
    if !what.is_empty() {
        heard.lock().unwrap().push(Heard { what, body: String::from_utf8_lossy(&body).into_owned() });
    }
    let mut stream = stream;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
