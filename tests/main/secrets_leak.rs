//! Secrets never appear: distinctive ones are planted wherever one can stand, services refuse them and say back all they
//! were sent, and then everything that people and programs can read is searched for them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::support::node::{Node, RARELY, people, quoted, wait_until};
use crate::support::redis::RedisServer;

const PATIENCE: Duration = Duration::from_secs(90);
/// A status after which the connection ends without a word.
const HANG_UP: u16 = 0;

/// Where a secret stands: the name of its variable or file, and the secret.
struct Planted(Vec<(&'static str, String)>);

impl Planted {
    fn new() -> Self {
        let names = [
            "MAIL",
            "HOOK_PATH",
            "HOOK_TOKEN",
            "HMAC",
            "MATRIX",
            "SLACK_TOKEN",
            "SLACK_HOOK",
            "PAGERDUTY",
            "NTFY_TOKEN",
            "NTFY_USER",
            "TELEGRAM",
            "DISCORD",
            "TEAMS",
            "REDIS",
            "REDIS_AWAY",
            "APPRISE",
            "CHECK",
            "CONNECTION",
        ];
        // No word of any text, and no special characters: as it stands in a path, a header, JSON.
        let secret = |(number, name): (usize, &'static str)| {
            (name, format!("Zq{number:02}xPLANTEDx{}x7Kw", name.replace('_', "")))
        };
        Self(names.into_iter().enumerate().map(secret).collect())
    }

    fn get(&self, name: &str) -> &str {
        &self.0.iter().find(|(known, _)| *known == name).unwrap().1
    }

    /// What of them stands in a text, also as logins write them.
    fn found_in(&self, text: &str) -> Vec<&'static str> {
        let encoded = ["\0u\0", "user:"].map(|start| {
            self.0.iter().map(move |(name, secret)| (*name, base64(format!("{start}{secret}").as_bytes())))
        });
        let all = self.0.iter().cloned().chain(encoded.into_iter().flatten());
        all.filter(|(_, secret)| text.contains(secret.as_str())).map(|(name, _)| name).collect()
    }
}

/// As HTTP and SMTP logins are written; a test crate for this alone is not worth it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32, shift: u32| char::from(DIGITS[(bits >> shift & 63) as usize]);
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        let digits = [18, 12, 6, 0].map(|shift| digit(bits, shift));
        text.extend(&digits[..=group.len()]);
    }
    text
}

/// A service that answers every request with a status, and with all that it was sent.
struct Echo {
    port: u16,
    status: Arc<AtomicU16>,
    /// All that it was sent.
    heard: Arc<Mutex<String>>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let echo = Self {
            port: listener.local_addr().unwrap().port(),
            status: Arc::new(AtomicU16::new(500)),
            heard: Arc::default(),
        };
        let (status, heard) = (echo.status.clone(), echo.heard.clone());
        // Ends with the process: it waits in `accept`.
        std::thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let (status, heard) = (status.clone(), heard.clone());
                std::thread::spawn(move || answer(caller, status.load(Ordering::Relaxed), &heard));
            }
        });
        echo
    }
}

/// One request; a caller who hangs up does not want to know.
fn answer(mut caller: TcpStream, status: u16, heard: &Mutex<String>) {
    caller.set_read_timeout(Some(Duration::from_millis(400))).ok();
    let mut request = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = caller.read(&mut buffer) {
        request.extend(&buffer[..length]);
        if is_whole(&String::from_utf8_lossy(&request)) {
            break;
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    heard.lock().unwrap().push_str(&request);
    if status == HANG_UP {
        return;
    }
    let said = request.replace(['\r', '\n'], " ");
    let reply = if request.contains(" HTTP/1.1") {
        let body =
            json!({"ok": status == 200, "error": said, "errcode": "M_UNKNOWN", "message": said, "description": said});
        let body = body.to_string();
        let head = format!("HTTP/1.1 {status} {said}\r\nContent-Type: application/json\r\nX-Said: {said}");
        format!("{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    } else {
        format!("-WRONGPASS {said}\r\n")
    };
    caller.write_all(reply.as_bytes()).ok();
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return request.starts_with('*') };
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    length.and_then(|length| length.parse::<usize>().ok()).is_none_or(|length| body.len() >= length)
}

/// The channels, each with a secret of its own, and how they refer to it.
fn channels(node: &Node, echo: &Echo, redis: &RedisServer) -> Vec<(&'static str, String)> {
    let at = format!("http://127.0.0.1:{}", echo.port);
    let env = |name: &str| format!("${{env:WATCHBELL_SECRET_{name}}}");
    let file = |name: &str| format!("${{file:{}}}", node.path("secrets").join(name).display());
    vec![
        ("hook", format!("webhook+{at}/{}#hmac_key={}&token={}", env("HOOK_PATH"), file("HMAC"), env("HOOK_TOKEN"))),
        ("alertmanager", format!("webhook+{at}/hook#format=alertmanager&token={}", env("HOOK_TOKEN"))),
        ("matrix", format!("matrix+{at}#room=!room:localhost&token=${{pass:MATRIX}}")),
        ("slack-bot", format!("slack:#token={}&channel=C0123456789&api={at}", env("SLACK_TOKEN"))),
        ("slack-hook", format!("slack:#webhook={at}/services/{}", env("SLACK_HOOK"))),
        ("pagerduty", format!("pagerduty:#routing_key={}&api={at}", env("PAGERDUTY"))),
        ("ntfy-token", format!("ntfy+{at}/topic#token={}", file("NTFY_TOKEN"))),
        ("ntfy-user", format!("ntfy+http://user:{}@127.0.0.1:{}/topic", env("NTFY_USER"), echo.port)),
        ("telegram", format!("telegram:#token={}&chat_id=-100123&api={at}", env("TELEGRAM"))),
        ("discord", format!("discord:#webhook={at}/api/webhooks/1/{}", env("DISCORD"))),
        ("teams", format!("teams:#webhook={at}/workflows/{}", env("TEAMS"))),
        ("redis", format!("redis://:{}@127.0.0.1:{}/0", env("REDIS"), redis.port())),
        ("redis-away", format!("redis://:{}@127.0.0.1:{}/0", file("REDIS_AWAY"), echo.port)),
        ("apprise", format!("apprise:json://127.0.0.1:{}/{}", echo.port, env("APPRISE"))),
    ]
}

/// An installation, not started, in which every secret is planted.
fn node(planted: &Planted) -> Node {
    let mut node = Node::new().with_mail();
    for folder in ["secrets", "bin"] {
        fs::create_dir(node.path(folder)).unwrap();
    }
    for (name, secret) in &planted.0 {
        fs::write(node.path("secrets").join(name), format!("{secret}\n")).unwrap();
        // Only what looks like a bot's token is sent to Telegram at all.
        let start = if *name == "TELEGRAM" { "123456:" } else { "" };
        node = node.with(&format!("WATCHBELL_SECRET_{name}"), &format!("{start}{secret}"));
    }
    let pass = node.path("bin").join("pass");
    fs::write(&pass, format!("#!/bin/sh\nexec cat \"{}/$2\"\n", node.path("secrets").display())).unwrap();
    fs::set_permissions(&pass, fs::Permissions::from_mode(0o755)).unwrap();
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin");
    let path = format!("{}:{}:{}", node.path("bin").display(), tools.display(), std::env::var("PATH").unwrap());
    let allow = json!(["env:WATCHBELL_SECRET_*", format!("file:{}/*", node.path("secrets").display()), "pass:*"]);
    let mail =
        format!("smtp://u:${{env:WATCHBELL_SECRET_MAIL}}@localhost:{}?tls=required", node.smtp().ports().starttls);
    let ca_file = node.smtp().ca_file().display().to_string();
    node.smtp().set_password(planted.get("MAIL"));
    node.with("PATH", &path)
        .with("WATCHBELL_SECRETS__ALLOW", &allow.to_string())
        .with("WATCHBELL_MAIL__URL", &mail)
        .with("WATCHBELL_MAIL__CA_FILE", &ca_file)
        .with("WATCHBELL_CONNECTIONS__SHOP", "postgres://shop:${env:WATCHBELL_SECRET_CONNECTION}@127.0.0.1:1/shop")
        .with("WATCHBELL_DELIVERY__REPETITION_SECONDS", "0")
        .with("WATCHBELL_LOG__LEVEL", "trace")
}

/// Command lines of all processes, and the environments of those that the node started, as long as it is kept.
struct Watch {
    ends: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<String>>,
}

impl Watch {
    fn start(folder: &Path) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (has_ended, folder) = (ends.clone(), folder.canonicalize().unwrap());
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !has_ended.load(Ordering::Relaxed) {
                look(&folder, &mut seen);
                std::thread::sleep(Duration::from_millis(5));
            }
            seen.into_iter().collect::<Vec<_>>().join("\n")
        });
        Self { ends, thread: Some(thread) }
    }

    fn seen(mut self) -> String {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

fn look(folder: &Path, seen: &mut BTreeSet<String>) {
    let read = |path: &Path| {
        fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " ")).unwrap_or_default()
    };
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let line = read(&process.path().join("cmdline"));
        // A process that has no command line yet is about to become another program: its environment is the node's.
        let is_child = !line.is_empty()
            && fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
            && !line.contains("watchbell");
        if is_child {
            seen.insert(format!("child: {line}: {}", read(&process.path().join("environ"))));
        }
        seen.insert(line);
    }
}

#[test]
fn planted_secrets_stand_nowhere() {
    let planted = Planted::new();
    let echo = Echo::start();
    let redis = RedisServer::with_password(planted.get("REDIS"));
    let mut node = node(&planted);
    let said = node.start();
    let watch = Watch::start(&node.path(""));
    let channels = channels(&node, &echo, &redis);
    for (name, url) in &channels {
        node.sql(&format!("INSERT INTO channels (name, url) VALUES ({}, {})", quoted(name), quoted(url)));
    }
    let mut recipients: Vec<&str> = channels.iter().map(|(name, _)| *name).collect();
    recipients.push("ops@x.test");
    // Checks have secrets too: one that is refused with all that it said, and one of a database that is not there.
    let headers = json!({"url": format!("http://127.0.0.1:{}/", echo.port),
        "headers": {"Authorization": "Bearer ${env:WATCHBELL_SECRET_CHECK}"}});
    let config = quoted(&headers.to_string());
    node.register("checked", RARELY, &[("kind", "'http'"), ("config", &config), ("people_to_notify", "'[]'")]);
    let query = quoted(r#"{"connection": "shop", "query": "select 1"}"#);
    node.register("queried", RARELY, &[("kind", "'sql'"), ("config", &query), ("people_to_notify", "'[]'")]);

    for status in [401, 500, HANG_UP, 400, 200] {
        echo.status.store(status, Ordering::Relaxed);
        if status == 500 {
            let reply = format!("451 4.3.0 you said {}", planted.get("MAIL"));
            node.smtp().fault(json!({"at": "MAIL", "reply": reply, "count": 1}));
        }
        let before = node.number("SELECT coalesce(max(id), 0) FROM notification_events");
        let name = format!("round-{status}");
        node.break_with(&name, "no answer");
        node.register(&name, RARELY, &[("people_to_notify", &people(&recipients))]);
        // The pauses of channels that were away end.
        let tried = format!(
            "SELECT count(DISTINCT n.recipient) = {} FROM notification_events e JOIN notifications n ON n.id = e.notification_id \
             WHERE e.id > {before} AND e.event IN ('sent', 'not taken', 'given up')",
            recipients.len()
        );
        wait_until(&name, PATIENCE, || {
            node.sql("UPDATE rules_version SET version = version + 1");
            node.sql(&tried) == "1"
        });
    }
    let by_status = node.sql(
        "SELECT recipient, group_concat(DISTINCT event) FROM notification_events e \
        JOIN notifications n ON n.id = e.notification_id GROUP BY recipient",
    );
    println!("secrets_leak: what became of the messages:\n{by_status}");
    let monitor = node.number("SELECT id FROM monitors WHERE name = 'checked'").to_string();
    let words = |arguments: &[&str]| {
        let output = node.watchbell(arguments);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let mut places = vec![("start".to_owned(), said)];
    for arguments in [
        &["config"][..],
        &["config", "--json"],
        &["doctor"],
        &["list"],
        &["list", "--json"],
        &["show", &monitor],
        &["show", &monitor, "--json"],
        &["history", &monitor],
        &["run", &monitor],
        &["kinds"],
    ] {
        places.push((arguments.join(" "), words(arguments)));
    }
    places.push(("ledger".to_owned(), node.sql("SELECT * FROM notifications; SELECT * FROM notification_events")));
    places.push(("process list".to_owned(), watch.seen()));
    node.stop();
    places.push(("log".to_owned(), node.log()));
    for file in ["watchbell.db", "watchbell.db-wal"] {
        if let Ok(bytes) = fs::read(node.path(file)) {
            places.push((file.to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    places.extend(node.smtp().mails().into_iter().map(|mail| ("mail".to_owned(), mail.data)));

    // They were used, so that they could have been seen.
    let mut used = planted.found_in(&echo.heard.lock().unwrap());
    used.sort_unstable();
    used.dedup();
    println!("secrets_leak: services heard {used:?}");
    let unheard: Vec<_> = planted.0.iter().map(|(name, _)| *name).filter(|name| !used.contains(name)).collect();
    assert_eq!(unheard, ["MAIL", "HMAC", "REDIS", "CONNECTION"], "the others are said to the service");
    assert!(node.smtp().mails().iter().any(|mail| mail.auth) && by_status.contains("redis|sent"), "{by_status}");
    let seen = places.iter().find(|(place, _)| place == "process list").unwrap();
    assert!(seen.1.contains("apprise"), "the process list was looked at in time");
    let leaks: Vec<String> = places
        .iter()
        .map(|(place, text)| (place, planted.found_in(text)))
        .filter(|(_, found)| !found.is_empty())
        .map(|(place, found)| format!("{place}: {found:?}"))
        .collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
}
