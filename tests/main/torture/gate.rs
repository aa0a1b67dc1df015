//! A door in front of a service: whole messages go through it, and it can be told where to stop one of them.
//!
//! The service behind it sees what a node that dies there would have sent. What went through, and was taken, is kept.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Where a message is stopped, for as long as the connection lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The service has not seen a byte of it.
    BeforeFirstByte,
    /// The service has half of it.
    HalfRead,
    /// The service has taken it, and its answer goes no further.
    BeforeAnswer,
}

/// What is spoken through the gate: how long one message is, and whether an answer takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    /// One request with a `Content-Length`, one answer.
    Http,
    /// Lines, and mails after `354`.
    Smtp,
    /// RESP: commands as arrays of strings.
    Redis,
}

/// Stops when it is dropped.
pub(super) struct Gate {
    pub(super) port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    speech: Speech,
    service: u16,
    /// Whether a request tells somebody something: all others go through unseen.
    is_message: fn(&str) -> bool,
    state: Mutex<State>,
    /// Connections of an earlier number are cut.
    cuts: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// Nobody is there: connections break at once.
    is_away: bool,
    stop: Option<Stop>,
    stopped: usize,
    /// Since the gate was armed.
    answered: usize,
    taken: Vec<String>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

impl Gate {
    /// A gate before the port of a service on loopback.
    pub(super) fn start(runtime: &Handle, speech: Speech, service: u16, is_message: fn(&str) -> bool) -> Self {
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Mutex::new(State::default());
        let shared = Arc::new(Shared { speech, service, is_message, state, cuts: watch::Sender::new(0) });
        let served = shared.clone();
        let task = runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if served.state.lock().unwrap().is_away {
                    continue;
                }
                let (shared, mut cuts) = (served.clone(), served.cuts.subscribe());
                tokio::spawn(async move {
                    tokio::select! {
                        // Either side has gone.
                        _ = Passage::run(&shared, client) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { port, shared, task }
    }

    /// From now on messages are stopped there; `None`: nowhere. Open connections stay.
    pub(super) fn arm(&self, stop: Option<Stop>) {
        let mut state = self.shared.state.lock().unwrap();
        (state.stop, state.stopped, state.answered) = (stop, 0, 0);
    }

    /// Breaks all connections, with what is stopped on them, and stops nothing any more. So nobody goes on with what a dead
    /// node began: systemd ends the programs of a node together with it.
    pub(super) fn cut(&self) {
        self.arm(None);
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Whether the service is away for those who come from now on.
    pub(super) fn set_away(&self, is_away: bool) {
        self.shared.state.lock().unwrap().is_away = is_away;
    }

    /// How many messages are stopped.
    pub(super) fn stopped(&self) -> usize {
        self.shared.state.lock().unwrap().stopped
    }

    /// How many answers that took a message went through since the gate was armed.
    pub(super) fn answered(&self) -> usize {
        self.shared.state.lock().unwrap().answered
    }

    /// What the service took, in order.
    pub(super) fn taken(&self) -> Vec<String> {
        self.shared.state.lock().unwrap().taken.clone()
    }
}

/// One connection.
struct Passage<'a> {
    shared: &'a Shared,
    client: TcpStream,
    service: TcpStream,
    /// What the client sent and is no whole piece yet.
    inbox: Vec<u8>,
    /// A message that the service has and did not answer yet.
    asked: Option<String>,
    is_in_mail: bool,
}

impl<'a> Passage<'a> {
    async fn run(shared: &'a Shared, client: TcpStream) -> std::io::Result<()> {
        let service = TcpStream::connect(("127.0.0.1", shared.service)).await?;
        let mut passage = Self { shared, client, service, inbox: Vec::new(), asked: None, is_in_mail: false };
        let mut answer = Vec::with_capacity(16_384);
        loop {
            tokio::select! {
                read = passage.client.read_buf(&mut passage.inbox) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    while let Some(length) = passage.whole() {
                        let piece: Vec<u8> = passage.inbox.drain(..length).collect();
                        passage.ask(&piece).await?;
                    }
                }
                read = passage.service.read_buf(&mut answer) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    passage.answer(&answer).await?;
                    answer.clear();
                }
            }
        }
    }

    /// The length of the first whole piece of what came.
    fn whole(&self) -> Option<usize> {
        let after = |mark: &[u8]| self.inbox.windows(mark.len()).position(|at| at == mark).map(|at| at + mark.len());
        match self.shared.speech {
            Speech::Redis => command(&self.inbox),
            Speech::Smtp if self.is_in_mail => after(b"\r\n.\r\n"),
            Speech::Smtp => after(b"\r\n"),
            Speech::Http => {
                let head = after(b"\r\n\r\n")?;
                let text = String::from_utf8_lossy(&self.inbox[..head]).to_lowercase();
                let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
                let length = head + length.map_or(0, |length| length.trim().parse::<usize>().unwrap());
                (self.inbox.len() >= length).then_some(length)
            }
        }
    }

    async fn ask(&mut self, piece: &[u8]) -> std::io::Result<()> {
        let text = String::from_utf8_lossy(piece).into_owned();
        let is_mail = std::mem::take(&mut self.is_in_mail);
        let is_envelope = self.shared.speech == Speech::Smtp && text.to_uppercase().starts_with("MAIL ");
        let is_message = is_mail || (self.shared.speech != Speech::Smtp && (self.shared.is_message)(&text));
        if is_message || is_envelope {
            self.may_stop(Stop::BeforeFirstByte).await;
        }
        if is_message {
            let (first, rest) = piece.split_at(piece.len() / 2);
            self.service.write_all(first).await?;
            self.may_stop(Stop::HalfRead).await;
            self.asked = Some(text);
            return self.service.write_all(rest).await;
        }
        self.service.write_all(piece).await
    }

    async fn answer(&mut self, answer: &[u8]) -> std::io::Result<()> {
        let takes = match self.shared.speech {
            Speech::Http => answer.starts_with(b"HTTP/1.1 2"),
            Speech::Smtp => answer.starts_with(b"250"),
            Speech::Redis => !answer.starts_with(b"-"),
        };
        let asked = self.asked.take();
        let is_taken = takes && asked.is_some();
        if let Some(text) = asked.filter(|_| takes) {
            self.shared.state.lock().unwrap().taken.push(text);
            self.may_stop(Stop::BeforeAnswer).await;
        }
        self.is_in_mail = self.shared.speech == Speech::Smtp && answer.starts_with(b"354");
        self.client.write_all(answer).await?;
        if is_taken {
            self.shared.state.lock().unwrap().answered += 1;
        }
        Ok(())
    }

    /// Where the gate is told to stop here: until the connection is cut.
    async fn may_stop(&self, here: Stop) {
        {
            let mut state = self.shared.state.lock().unwrap();
            if state.stop != Some(here) {
                return;
            }
            state.stopped += 1;
        }
        std::future::pending().await
    }
}

/// The length of the command of Redis that the bytes begin with.
fn command(bytes: &[u8]) -> Option<usize> {
    let number = |at: usize| {
        let end = at + bytes.get(at..)?.windows(2).position(|two| two == b"\r\n")?;
        let digits = std::str::from_utf8(&bytes[at + 1..end]).unwrap();
        Some((digits.parse::<usize>().unwrap(), end + 2))
    };
    let (strings, mut at) = number(0)?;
    for _ in 0..strings {
        let (length, begin) = number(at)?;
        at = begin + length + 2;
    }
    (bytes.len() >= at).then_some(at)
}
