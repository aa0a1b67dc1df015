//! The channel `redis` against real Redis servers: with and without password and TLS, slow, gone, and refusing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use watchbell::channels::{ChannelSettings, find, open};
use watchbell::domain::{Facts, IncidentId, MonitorId, NotificationId, NotificationType, OutboxRow, State};
use watchbell::ports::{Channel, Delivered, DeliveryError};
use watchbell_contract::{SecretError, SecretReference, Secrets, Severity, async_trait};

use crate::support::redis::RedisServer;

/// With what means something in a URL.
const PASSWORD: &str = "pl4nted/#@%25:?";

/// `${env:GOOD}` is the password, `${env:WRONG}` another one, `${env:URL}` a whole URL.
struct Planted {
    url: String,
}

#[async_trait]
impl Secrets for Planted {
    fn permit(&self, _reference: &SecretReference) -> Result<(), SecretError> {
        Ok(())
    }

    async fn resolve(&self, reference: &SecretReference) -> Result<String, SecretError> {
        Ok(match reference.name.as_str() {
            "GOOD" => PASSWORD.to_owned(),
            "WRONG" => format!("wrong-{PASSWORD}"),
            _ => self.url.clone(),
        })
    }
}

struct NoMail;

#[async_trait]
impl Channel for NoMail {
    async fn deliver(&self, _message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        panic!("nobody writes mail here");
    }

    fn describe(&self) -> String {
        String::new()
    }
}

fn settings(ca_file: Option<PathBuf>, secret_url: &str) -> ChannelSettings {
    ChannelSettings {
        secrets: Arc::new(Planted { url: secret_url.to_owned() }),
        public_url: Some("https://watchbell.example.com".to_owned()),
        ca_file,
        mail: Arc::new(NoMail),
    }
}

fn channel(url: &str) -> Arc<dyn Channel> {
    open(url, &settings(None, "")).unwrap()
}

fn row(uuid: &str) -> OutboxRow {
    let at = |text: &str| text.parse().unwrap();
    OutboxRow {
        id: NotificationId(7),
        uuid: uuid.to_owned(),
        monitor_id: Some(MonitorId(3)),
        monitor_uuid: Some("3e6f".to_owned()),
        incident_id: Some(IncidentId(5)),
        incident_uuid: Some("5a5a".to_owned()),
        thread_uuid: "first".to_owned(),
        thread_external_id: None,
        edits_external_id: None,
        notification_type: NotificationType::Alert,
        severity: Severity::Critical,
        recipient: "bus".to_owned(),
        subject: "[Monitor ALERT] Orders".to_owned(),
        body: "two\nlines, \"quoted\"".to_owned(),
        facts: Facts {
            monitor_name: "Orders".to_owned(),
            kind: "sql".to_owned(),
            labels: BTreeMap::from([("app".to_owned(), "Shop".to_owned())]),
            state_before: Some(State::Ok),
            state: Some(State::Alert),
            at: Some(at("2026-11-22T01:00:00Z")),
            opened_at: Some(at("2026-11-22T01:00:00Z")),
            message: "0 rows".to_owned(),
            ..Facts::default()
        },
        attempts: 1,
        created_at: at("2026-11-22T01:00:01.5Z"),
    }
}

fn unavailable(result: Result<Delivered, DeliveryError>) -> String {
    let Err(DeliveryError::Unavailable { reason, after: None }) = result else {
        panic!("expected `Unavailable`: {result:?}")
    };
    assert!(!reason.contains("pl4nted"), "{reason}");
    reason
}

#[tokio::test]
async fn a_subscriber_gets_the_notification_as_json() {
    let server = RedisServer::start();
    let bus = channel(&format!("redis://127.0.0.1:{}", server.port()));
    assert_eq!(bus.deliver(&row("one")).await.unwrap().answer, "published to 0 receivers");

    let mut subscriber = server.subscribe("watchbell");
    assert_eq!(bus.deliver(&row("two")).await.unwrap().answer, "published to 1 receiver");
    let got: Value = serde_json::from_str(&subscriber.next()).unwrap();
    let expected = json!({
        "version": 1, "id": "two", "type": "alert", "severity": "critical",
        "subject": "[Monitor ALERT] Orders", "body": "two\nlines, \"quoted\"",
        "created_at": "2026-11-22T01:00:01.500Z", "thread": "first",
        "incident": {"id": 5, "uuid": "5a5a", "opened_at": "2026-11-22T01:00:00.000Z", "recovered_at": null},
        "monitor": {
            "id": 3, "uuid": "3e6f", "name": "Orders", "kind": "sql", "labels": {"app": "Shop"},
            "url": "https://watchbell.example.com/monitors/3e6f",
        },
        "state_before": "ok", "state": "alert", "at": "2026-11-22T01:00:00.000Z", "message": "0 rows",
        "count": 0, "tells_alert": false, "acknowledged_by": null,
    });
    assert_eq!(got, expected);

    let digest =
        OutboxRow { monitor_id: None, incident_id: None, incident_uuid: None, facts: Facts::default(), ..row("three") };
    bus.deliver(&digest).await.unwrap();
    let got: Value = serde_json::from_str(&subscriber.next()).unwrap();
    for key in ["monitor", "incident", "state_before", "state", "at"] {
        assert_eq!(got.get(key), Some(&Value::Null), "{key}");
    }
}

#[tokio::test]
async fn a_stream_holds_each_notification_once() {
    let mut server = RedisServer::start();
    let bus = channel(&format!("redis://127.0.0.1:{}/3#stream=wb:events&channel=told", server.port()));
    assert_eq!(bus.describe(), format!("channel `told` and stream `wb:events` at 127.0.0.1:{}", server.port()));
    let mut subscriber = server.subscribe("told");
    let delivered = bus.deliver(&row("one")).await.unwrap();
    let entry = delivered.external_id.unwrap();
    assert_eq!(delivered.answer, format!("entry {entry}; published to 1 receiver"));

    // The same one again, as after a crash: nothing doubles.
    let again = bus.deliver(&OutboxRow { attempts: 2, ..row("one") }).await.unwrap();
    assert_eq!(again.answer, format!("was sent before, as entry {entry}"));
    assert_eq!(again.external_id, Some(entry.clone()));

    let text = subscriber.next();
    assert_eq!(server.cli(&["-n", "3", "xrange", "wb:events", "-", "+"]), format!("{entry}\nid\none\njson\n{text}"));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["id"], "one");
    let seconds: u32 = server.cli(&["-n", "3", "ttl", "wb:events:sent:one"]).parse().unwrap();
    assert!((604_700..=604_800).contains(&seconds), "{seconds}");
    server.stop();
    assert_eq!(subscriber.rest(), "");
}

#[tokio::test]
async fn a_stream_stays_bounded_and_one_connection_serves_all() {
    let server = RedisServer::start();
    let bus = channel(&format!("redis://127.0.0.1:{}#stream=s&stream_max_length=100", server.port()));
    for number in 0..450 {
        assert!(bus.deliver(&row(&format!("n{number}"))).await.unwrap().answer.starts_with("entry "));
    }
    let length: u32 = server.cli(&["xlen", "s"]).parse().unwrap();
    // Redis cuts whole blocks, of 100 entries at most.
    assert!((100..=200).contains(&length), "{length}");
    assert!(server.cli(&["xrevrange", "s", "+", "-", "count", "1"]).contains("\nn449\n"));
    // This one, and `xlen` and `xrevrange` and the server's start-up need no other.
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn nothing_is_remembered_as_sent_that_did_not_get_into_the_stream() {
    let server = RedisServer::start();
    let bus = channel(&format!("redis://127.0.0.1:{}#stream=s&channel=c", server.port()));
    server.cli(&["set", "s", "something else"]);
    let reason = unavailable(bus.deliver(&row("one")).await);
    assert!(reason.contains("WRONGTYPE") && reason.contains("holds something else"), "{reason}");
    server.cli(&["del", "s"]);
    bus.deliver(&row("one")).await.unwrap();
    assert_eq!(server.cli(&["xlen", "s"]), "1");
}

#[tokio::test]
async fn passwords_are_used_and_never_shown() {
    let server = RedisServer::with_password(PASSWORD);
    let port = server.port();
    for url in
        [format!("redis://:${{env:GOOD}}@127.0.0.1:{port}"), format!("redis://default:${{env:GOOD}}@127.0.0.1:{port}")]
    {
        let bus = channel(&url);
        bus.deliver(&row("one")).await.unwrap();
        assert_eq!(bus.describe(), format!("channel `watchbell` at 127.0.0.1:{port}"));
    }
    let encoded = "pl4nted%2F%23%40%2525%3A%3F";
    let whole = format!("redis://:{encoded}@127.0.0.1:{port}/1");
    let bus = open("redis:${env:URL}", &settings(None, &whole)).unwrap();
    bus.deliver(&row("one")).await.unwrap();
    assert_eq!(bus.describe(), "channel `watchbell` at the address of a secret");

    let deliver =
        async |user: &str| unavailable(channel(&format!("redis://{user}127.0.0.1:{port}")).deliver(&row("one")).await);
    let wrong = deliver(":${env:WRONG}@").await;
    assert!(wrong.contains("WRONGPASS") && wrong.contains("check user and password"), "{wrong}");
    let none = deliver("").await;
    assert!(none.contains("NOAUTH") && none.contains("wants a password"), "{none}");

    server.cli(&[
        "acl",
        "setuser",
        "reader",
        "on",
        &format!(">{PASSWORD}"),
        "~s*",
        "&*",
        "+get",
        "+eval",
        "+xadd",
        "+set",
    ]);
    let rights = deliver("reader:${env:GOOD}@").await;
    assert!(rights.contains("NOPERM") && rights.contains("+publish"), "{rights}");
    // Redis 7.0 has other words for it inside a script.
    let url = format!("redis://reader:${{env:GOOD}}@127.0.0.1:{port}#stream=s&channel=c");
    let rights = unavailable(channel(&url).deliver(&row("one")).await);
    assert!(rights.contains("+publish"), "{rights}");
    // What the hint names is enough.
    server.cli(&["acl", "setuser", "reader", "+publish", "resetchannels", "&c"]);
    channel(&url).deliver(&row("one")).await.unwrap();
}

#[tokio::test]
async fn tls_trusts_a_private_authority_from_ca_file_only() {
    let server = RedisServer::with_tls(PASSWORD);
    let url = format!("rediss://:${{env:GOOD}}@127.0.0.1:{}", server.port());
    let trusted = open(&url, &settings(Some(server.ca_file()), "")).unwrap();
    assert_eq!(trusted.deliver(&row("one")).await.unwrap().answer, "published to 0 receivers");
    let connections = server.connections();

    let reason = unavailable(channel(&url).deliver(&row("two")).await);
    assert!(reason.contains("certificate") && reason.contains("`channels.ca_file`"), "{reason}");
    let plain = url.replace("rediss:", "redis:");
    unavailable(channel(&plain).deliver(&row("two")).await);
    // The trusted connection is still the one in use.
    trusted.deliver(&row("three")).await.unwrap();
    assert!(server.cli(&["client", "list"]).lines().count() == 2, "{connections}");
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again() {
    let mut server = RedisServer::start();
    let bus = channel(&format!("redis://127.0.0.1:{}#stream=s", server.port()));
    bus.deliver(&row("one")).await.unwrap();
    server.stop();
    for _ in 0..2 {
        unavailable(bus.deliver(&row("two")).await);
    }
    server.start_again();
    bus.deliver(&row("two")).await.unwrap();
    // Restarted between two messages: the dead connection is no reason to let the message wait.
    server.stop();
    server.start_again();
    bus.deliver(&row("three")).await.unwrap();
    assert_eq!(server.cli(&["xlen", "s"]), "1");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    let server = RedisServer::start();
    let bus = channel(&format!("redis://127.0.0.1:{}#stream=s", server.port()));
    bus.deliver(&row("one")).await.unwrap();
    server.cli(&["client", "pause", "7000", "all"]);
    let started = Instant::now();
    let reason = unavailable(bus.deliver(&row("two")).await);
    assert_eq!(reason, "the Redis server did not answer in time");
    assert!((4..30).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    // It is not known whether the server took it: both may happen, and the stream has it once either way.
    bus.deliver(&row("two")).await.unwrap();
    assert_eq!(server.cli(&["xlen", "s"]), "2");
}

#[tokio::test]
async fn refusals_that_concern_all_messages_make_the_channel_wait() {
    let server = RedisServer::start();
    let bus = channel(&format!("redis://127.0.0.1:{}#stream=s", server.port()));
    server.cli(&["config", "set", "maxmemory", "1"]);
    let full = unavailable(bus.deliver(&row("one")).await);
    assert!(full.contains("OOM") && full.contains("`maxmemory`"), "{full}");
    server.cli(&["config", "set", "maxmemory", "0"]);
    server.cli(&["replicaof", "127.0.0.1", "1"]);
    let replica = unavailable(bus.deliver(&row("one")).await);
    assert!(replica.contains("READONLY") && replica.contains("primary"), "{replica}");
    server.cli(&["replicaof", "no", "one"]);
    // A missing right is the same for all messages.
    server.cli(&["acl", "setuser", "default", "-xadd", "-eval"]);
    unavailable(bus.deliver(&row("one")).await);
    server.cli(&["acl", "setuser", "default", "+eval", "+xadd"]);
    bus.deliver(&row("one")).await.unwrap();
}

#[test]
fn faults_of_the_url_come_with_hints() {
    let faults = |url: &str| open(url, &settings(None, "")).map(drop).unwrap_err().to_string();
    let several = faults("redis://host#stream_max_length=0&chanel=x");
    for part in ["`channel`", "from 1 to 10000000", "is given without `stream`"] {
        assert!(several.contains(part), "{part}: {several}");
    }
    assert!(faults("redis://host#stream=").contains("is empty"));
    for example in find("redis").unwrap().examples {
        channel(example);
    }
}

#[tokio::test]
async fn a_wrong_address_is_told_without_quoting_it() {
    for url in
        ["redis://user:pl4nted@", "redis://pl4nted@host", "redis://:pl4nted@host/x", "redis://:pl4nted@host:port"]
    {
        let reason = unavailable(channel(url).deliver(&row("one")).await);
        assert!(reason.starts_with("the channel's `url` "), "{reason}");
    }
}

#[test]
fn programs_get_each_message() {
    assert!(channel("redis://host").wants_each());
}
