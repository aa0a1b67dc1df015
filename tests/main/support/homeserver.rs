//! A Matrix homeserver of the test's own: a real Synapse on loopback, with a data folder in a temporary folder, stopped on
//! drop (and by itself, when the test's process is gone). It takes about two seconds to start: share it where that does.
//!
//! Users are registered when they are first named: [`Homeserver::token`]. Rooms belong to [`OWNER`], who reads them.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::smtp::python;

/// Who owns all rooms, and reads them.
pub(crate) const OWNER: &str = "alice";
/// The product's account.
pub(crate) const BOT: &str = "bot";

/// Synapse is ready in two seconds, and later on a machine that has much to do.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// Of one request.
const REQUEST_PATIENCE: Duration = Duration::from_secs(30);

/// How many messages a user may send, as Synapse's `rc_message`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageLimit {
    /// Messages a second, in the long run.
    pub(crate) per_second: f64,
    /// Messages at once.
    pub(crate) burst: u32,
}

/// Never in a test's way.
const NO_LIMIT: MessageLimit = MessageLimit { per_second: 100_000.0, burst: 100_000 };

/// A message of a room, as the homeserver keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The whole user id.
    pub(crate) sender: String,
    /// `m.text` or `m.notice`.
    pub(crate) msgtype: String,
    /// The plain text.
    pub(crate) body: String,
    /// The HTML; empty where there is none.
    pub(crate) formatted_body: String,
    /// The event's id.
    pub(crate) event_id: String,
    /// The thread's first event, where it stands in a thread.
    pub(crate) thread_root: Option<String>,
    /// What it is a reply to.
    pub(crate) in_reply_to: Option<String>,
    /// What it is an edit of.
    pub(crate) replaces: Option<String>,
    /// When the homeserver took it, in milliseconds since 1970.
    pub(crate) at_millis: i64,
    /// All that was sent.
    pub(crate) content: Value,
}

/// A homeserver; it runs unless it was stopped.
pub(crate) struct Homeserver {
    files: tempfile::TempDir,
    port: u16,
    process: Mutex<Option<Child>>,
    tokens: Mutex<HashMap<String, String>>,
}

impl Homeserver {
    /// One of the test's own: to be stopped, frozen and the like.
    pub(crate) fn start() -> Self {
        Self::start_with(NO_LIMIT)
    }

    /// One that refuses more messages than that with 429.
    pub(crate) fn start_with(limit: MessageLimit) -> Self {
        let mut homeserver = Self {
            files: tempfile::tempdir().unwrap(),
            port: 0,
            process: Mutex::new(None),
            tokens: Mutex::new(HashMap::new()),
        };
        let (files, config_file) = (homeserver.files.path().to_owned(), homeserver.config_file());
        let child = first_that_starts(|| {
            homeserver.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            std::fs::write(&config_file, config(&files, homeserver.port, limit).to_string()).unwrap();
            homeserver.launch()
        });
        homeserver.process = Mutex::new(Some(child));
        homeserver
    }

    /// One for all tests that run at the time. Its users and what they may do are the same for all, so that a test must
    /// look at rooms of its own only.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Homeserver>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap();
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(Self::start());
        *shared = Arc::downgrade(&started);
        started
    }

    /// Its address, `http://127.0.0.1:port`.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The access token of a user, who is registered first where there is none of that name.
    pub(crate) fn token(&self, user: &str) -> String {
        let mut tokens = self.tokens.lock().unwrap();
        let register = || {
            let body = json!({"username": user, "password": user, "auth": {"type": "m.login.dummy"}});
            let answer = self.ask("POST", "/register", None, Some(&body));
            answer["access_token"].as_str().unwrap().to_owned()
        };
        tokens.entry(user.to_owned()).or_insert_with(register).clone()
    }

    /// The whole id of a user.
    pub(crate) fn user_id(&self, user: &str) -> String {
        format!("@{user}:localhost")
    }

    /// A new private room, to which these users are invited. They are not in it yet.
    pub(crate) fn create_room(&self, invite: &[&str]) -> String {
        self.create(invite, json!({"preset": "private_chat"}))
    }

    /// The same with an alias, `#name:localhost`.
    pub(crate) fn create_room_with_alias(&self, invite: &[&str], name: &str) -> String {
        self.create(invite, json!({"preset": "private_chat", "room_alias_name": name}))
    }

    fn create(&self, invite: &[&str], mut room: Value) -> String {
        let invited: Vec<String> =
            invite.iter().map(|user| self.token(user)).zip(invite).map(|(_, user)| self.user_id(user)).collect();
        room["invite"] = json!(invited);
        let answer = self.ask("POST", "/createRoom", Some(OWNER), Some(&room));
        answer["room_id"].as_str().unwrap().to_owned()
    }

    /// Lets a user join a room, by its id or an alias.
    pub(crate) fn join(&self, user: &str, room: &str) {
        self.ask("POST", &format!("/join/{}", encoded(room)), Some(user), Some(&json!({})));
    }

    /// Invites a user.
    pub(crate) fn invite(&self, room: &str, user: &str) {
        self.token(user);
        let body = json!({"user_id": self.user_id(user)});
        self.ask("POST", &format!("/rooms/{}/invite", encoded(room)), Some(OWNER), Some(&body));
    }

    /// Puts a user out of a room.
    pub(crate) fn kick(&self, room: &str, user: &str) {
        let body = json!({"user_id": self.user_id(user)});
        self.ask("POST", &format!("/rooms/{}/kick", encoded(room)), Some(OWNER), Some(&body));
    }

    /// Takes an alias, `#name:localhost`, from its room.
    pub(crate) fn delete_alias(&self, alias: &str) {
        self.ask("DELETE", &format!("/directory/room/{}", encoded(alias)), Some(OWNER), None);
    }

    /// Gives a room an alias, `#name:localhost`.
    pub(crate) fn set_alias(&self, alias: &str, room: &str) {
        let path = format!("/directory/room/{}", encoded(alias));
        self.ask("PUT", &path, Some(OWNER), Some(&json!({"room_id": room})));
    }

    /// Writes a plain message, and says its event id.
    pub(crate) fn say(&self, user: &str, room: &str, text: &str) -> String {
        self.send(user, room, &json!({"msgtype": "m.text", "body": text}))
    }

    /// Sends a message with any content, and says its event id.
    pub(crate) fn send(&self, user: &str, room: &str, content: &Value) -> String {
        let path = format!("/rooms/{}/send/m.room.message/{}", encoded(room), uuid::Uuid::new_v4());
        self.ask("PUT", &path, Some(user), Some(content))["event_id"].as_str().unwrap().to_owned()
    }

    /// All messages of a room, edits among them, in the order in which they came.
    pub(crate) fn messages(&self, room: &str) -> Vec<Message> {
        let filter = encoded(&json!({"types": ["m.room.message"]}).to_string());
        let (mut messages, mut from) = (Vec::new(), String::new());
        loop {
            let path = format!("/rooms/{}/messages?dir=f&limit=500&filter={filter}{from}", encoded(room));
            let page = self.ask("GET", &path, Some(OWNER), None);
            messages.extend(page["chunk"].as_array().unwrap().iter().map(message));
            match page["end"].as_str() {
                Some(end) => from = format!("&from={}", encoded(end)),
                None => return messages,
            }
        }
    }

    /// The messages as people see them: an edited one once, with its newest content.
    pub(crate) fn shown(&self, room: &str) -> Vec<Message> {
        let mut shown: Vec<Message> = Vec::new();
        for message in self.messages(room) {
            let Some(edited) = &message.replaces else {
                shown.push(message);
                continue;
            };
            if let Some(original) = shown.iter_mut().find(|original| original.event_id == *edited) {
                let new = &message.content["m.new_content"];
                original.body = text(&new["body"]);
                original.formatted_body = text(&new["formatted_body"]);
            }
        }
        shown
    }

    /// Stops it as an administrator does; what it has taken is kept.
    pub(crate) fn stop(&self) {
        self.end_by("-TERM");
    }

    /// Kills it.
    pub(crate) fn kill(&self) {
        self.end_by("-KILL");
    }

    /// Lets it neither read nor answer; connections are still taken.
    pub(crate) fn freeze(&self) {
        signal("-STOP", self.process.lock().unwrap().as_ref().unwrap());
    }

    /// Ends [`Homeserver::freeze`].
    pub(crate) fn thaw(&self) {
        signal("-CONT", self.process.lock().unwrap().as_ref().unwrap());
    }

    /// Starts it after a stop, at the same address and with what it knew; it is ready when this returns.
    pub(crate) fn start_again(&self) {
        let mut process = self.process.lock().unwrap();
        assert!(process.is_none(), "it is running");
        *process = Some(first_that_starts(|| self.launch()));
    }

    /// Starts the program and waits until it is ready. Where it is not, its last words.
    fn launch(&self) -> Result<Child, String> {
        let log = self.files.path().join("homeserver.log");
        let mut child = Command::new(python())
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/main/support/homeserver.py"))
            .arg("-c")
            .arg(self.config_file())
            .current_dir(self.files.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while self.try_ask("GET", "/_matrix/client/versions", None, None).is_none_or(|(status, _)| status != 200) {
            let has_ended = child.try_wait().unwrap().is_some();
            if has_ended || started.elapsed() > START_PATIENCE {
                child.kill().ok();
                child.wait().unwrap();
                return Err(std::fs::read_to_string(log).unwrap());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(child)
    }

    fn end_by(&self, how: &str) {
        let mut child = self.process.lock().unwrap().take().expect("it is not running");
        signal(how, &child);
        child.wait().unwrap();
    }

    fn config_file(&self) -> PathBuf {
        self.files.path().join("homeserver.yaml")
    }

    fn ask(&self, method: &str, path: &str, user: Option<&str>, body: Option<&Value>) -> Value {
        let token = user.map(|user| self.token(user));
        let path = format!("/_matrix/client/v3{path}");
        let (status, answer) = self
            .try_ask(method, &path, token.as_deref(), body)
            .unwrap_or_else(|| panic!("no answer to {method} {path}"));
        assert_eq!(status, 200, "{method} {path}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// Status and body. HTTP/1.0, so that the body ends with the connection.
    fn try_ask(&self, method: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(REQUEST_PATIENCE)).ok()?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!("{method} {path} HTTP/1.0\r\n{token}Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }
}

impl Drop for Homeserver {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(mut child) = process.take() {
            // It may have ended by itself.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Between the choice of a port and its use somebody else may take it; that does not happen often.
fn first_that_starts(mut launch: impl FnMut() -> Result<Child, String>) -> Child {
    const ATTEMPTS: u32 = 3;
    let mut words = String::new();
    for _ in 0..ATTEMPTS {
        match launch() {
            Ok(child) => return child,
            Err(last_words) => words = last_words,
        }
    }
    panic!("the homeserver does not start: {words}");
}

fn signal(name: &str, child: &Child) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success(), "kill {name}: {status}");
}

fn config(files: &Path, port: u16, limit: MessageLimit) -> Value {
    let free = json!({"per_second": NO_LIMIT.per_second, "burst_count": NO_LIMIT.burst});
    json!({
        "server_name": "localhost",
        "report_stats": false,
        "pid_file": files.join("homeserver.pid"),
        "listeners": [{
            "port": port,
            "type": "http",
            "bind_addresses": ["127.0.0.1"],
            "resources": [{"names": ["client"]}],
        }],
        "database": {"name": "sqlite3", "args": {"database": files.join("homeserver.db")}},
        "media_store_path": files.join("media"),
        // No other homeserver ever sees what it signs.
        "signing_key": format!("ed25519 a_test {}", "A".repeat(43)),
        "trusted_key_servers": [],
        "suppress_key_server_warning": true,
        "macaroon_secret_key": "for a test",
        "form_secret": "for a test",
        "enable_registration": true,
        "enable_registration_without_verification": true,
        "bcrypt_rounds": 4,
        "presence": {"enabled": false},
        "rc_message": {"per_second": limit.per_second, "burst_count": limit.burst},
        "rc_registration": free,
        "rc_joins": {"local": free, "remote": free},
        "rc_joins_per_room": free,
        "rc_invites": {"per_room": free, "per_user": free, "per_issuer": free},
        "rc_room_creation": free,
    })
}

fn message(event: &Value) -> Message {
    let content = &event["content"];
    let relation = &content["m.relates_to"];
    let related = |rel_type: &str| (relation["rel_type"] == rel_type).then(|| text(&relation["event_id"]));
    Message {
        sender: text(&event["sender"]),
        msgtype: text(&content["msgtype"]),
        body: text(&content["body"]),
        formatted_body: text(&content["formatted_body"]),
        event_id: text(&event["event_id"]),
        thread_root: related("m.thread"),
        in_reply_to: relation["m.in_reply_to"]["event_id"].as_str().map(ToOwned::to_owned),
        replaces: related("m.replace"),
        at_millis: event["origin_server_ts"].as_i64().unwrap(),
        content: content.clone(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
