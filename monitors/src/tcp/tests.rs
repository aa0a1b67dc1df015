//! The kind `tcp` against listeners of the test's own.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use watchbell_contract::{ConfigReader, Monitor, Outcome, testing};

use super::Tcp;

/// Asks with `config`, whose `host` and `port` are filled in; an error is its chain of causes, as the engine has it.
async fn ask(port: u16, mut config: Value, timeout: Duration) -> Result<Outcome, String> {
    let object = config.as_object_mut().unwrap();
    object.entry("host").or_insert(json!("127.0.0.1"));
    object.entry("port").or_insert(json!(port));
    let reader = ConfigReader::without_secrets(Tcp.manifest(), object);
    let check = Tcp.prepare(reader).map_err(|faults| faults.to_string()).unwrap();
    check.check(&testing::context(timeout)).await.map_err(|error| format!("{error:#}"))
}

/// A server that serves one connection with `serve`.
async fn server<F, S>(serve: S) -> u16
where
    F: Future<Output = ()> + Send + 'static,
    S: FnOnce(TcpStream) -> F + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
    port
}

async fn greeter(greeting: &'static str) -> u16 {
    server(async move |mut stream: TcpStream| {
        stream.write_all(greeting.as_bytes()).await.unwrap();
        // Held open until the other side goes away.
        stream.read_u8().await.ok();
    })
    .await
}

fn faults(config: Value) -> String {
    let reader = ConfigReader::without_secrets(Tcp.manifest(), config.as_object().unwrap());
    Tcp.prepare(reader).err().map(|faults| faults.to_string()).unwrap_or_default()
}

const LONG: Duration = Duration::from_secs(10);
/// Long enough that the reserve in which a check reports is no matter of luck on a busy machine.
const SHORT: Duration = Duration::from_secs(1);

#[tokio::test]
async fn it_conforms() {
    testing::exercise(&Tcp).await;
}

#[tokio::test]
async fn an_open_port_is_ok_with_its_times() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let outcome = ask(port, json!({"ip_version": 4, "max_response_ms": 5000}), LONG).await.unwrap();
    assert!(outcome.is_ok, "{outcome:?}");
    assert!(outcome.message.starts_with(&format!("port {port} of `127.0.0.1` (127.0.0.1:{port}) is open, in")));
    assert!(outcome.metrics["connect_ms"] > 0.0 && outcome.metrics["connect_ms"] <= outcome.metrics["response_ms"]);
}

#[tokio::test]
async fn a_name_is_resolved() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let outcome = ask(port, json!({"host": "localhost", "ip_version": 4}), LONG).await.unwrap();
    assert!(outcome.is_ok && outcome.message.contains("`localhost` (127.0.0.1:"), "{outcome:?}");
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    // Bound, so that nobody else is given the port, but not listening.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let error = ask(port, json!({}), LONG).await.unwrap_err();
    assert!(error.starts_with(&format!("cannot connect to `127.0.0.1` port {port}: 127.0.0.1: connection refused")));
    assert!(error.contains("nothing listens on this port"), "{error}");
}

#[tokio::test]
async fn an_address_of_the_other_version_does_not_count() {
    let error = ask(9, json!({"ip_version": 6}), LONG).await.unwrap_err();
    assert_eq!(error, "`127.0.0.1` has no IPv6 address (found: 127.0.0.1)");
}

#[tokio::test]
async fn a_name_that_cannot_exist_is_told_apart() {
    // A label longer than 63 bytes is refused before anything is asked on the network.
    let host = format!("{}.invalid", "a".repeat(64));
    let error = ask(9, json!({"host": host}), LONG).await.unwrap_err();
    assert!(error.contains("cannot be resolved on this machine"), "{error}");
}

#[tokio::test]
async fn an_expected_greeting_is_ok_and_shown() {
    let port = greeter("220 mx.test ESMTP\r\n").await;
    let outcome = ask(port, json!({"expect": "ESMTP"}), LONG).await.unwrap();
    assert!(outcome.is_ok && outcome.message.contains("answered `220 mx.test ESMTP`"), "{outcome:?}");
    let port = greeter("220 mx.test ESMTP\r\n").await;
    assert!(ask(port, json!({"expect_regex": r"^220 .*ESMTP"}), LONG).await.unwrap().is_ok);
}

#[tokio::test]
async fn what_is_sent_arrives_byte_by_byte_with_its_line_end() {
    let port = server(async |mut stream: TcpStream| {
        let mut request = [0; 6];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"PING\r\n");
        // In two pieces, so that the answer has to be put together.
        stream.write_all(b"+PO").await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(b"NG\r\n").await.unwrap();
    })
    .await;
    let outcome = ask(port, json!({"send": "PING\r\n", "expect": "+PONG"}), LONG).await.unwrap();
    assert!(outcome.is_ok, "{outcome:?}");
}

#[tokio::test]
async fn another_answer_fails_at_the_time_out_and_shows_it() {
    let port = greeter("554 no service\r\n").await;
    let outcome = ask(port, json!({"expect": "220"}), SHORT).await.unwrap();
    assert!(!outcome.is_ok && outcome.severity.is_none());
    assert!(outcome.message.contains("is open, but the expected `220` did not come within 0.9 s"), "{outcome:?}");
    assert!(outcome.message.contains("it sent `554 no service`"), "{outcome:?}");
    assert!(outcome.metrics.contains_key("connect_ms"));
}

#[tokio::test]
async fn silence_fails_before_the_engine_would_stop_the_check() {
    let port = greeter("").await;
    let asked = tokio::time::timeout(SHORT, ask(port, json!({"expect_regex": "^220"}), SHORT)).await;
    let outcome = asked.expect("it reports before its time is up").unwrap();
    assert!(outcome.message.contains("a match of `^220` did not come"), "{outcome:?}");
    assert!(outcome.message.ends_with("it sent nothing"), "{outcome:?}");
}

#[tokio::test]
async fn a_closed_connection_fails_at_once() {
    let port = server(async |mut stream: TcpStream| stream.write_all(b"bye\x07").await.unwrap()).await;
    let outcome = ask(port, json!({"expect": "220"}), LONG).await.unwrap();
    assert!(outcome.message.contains("closed the connection without the expected `220`: it sent `bye\\u{7}`"));
}

#[tokio::test]
async fn only_the_first_bytes_count() {
    let port = greeter("0123456789").await;
    let outcome = ask(port, json!({"expect": "789", "max_bytes": 9}), LONG).await.unwrap();
    assert!(outcome.message.contains("its first 9 bytes do not hold the expected `789`"), "{outcome:?}");
    let port = greeter("0123456789").await;
    assert!(ask(port, json!({"expect": "789", "max_bytes": 10}), LONG).await.unwrap().is_ok);
}

#[tokio::test]
async fn a_long_answer_is_shortened() {
    let port = server(async |mut stream: TcpStream| stream.write_all(&[b'x'; 1000]).await.unwrap()).await;
    let outcome = ask(port, json!({"expect": "y"}), LONG).await.unwrap();
    assert!(outcome.message.ends_with("xxx...`") && outcome.message.len() < 400, "{outcome:?}");
}

#[tokio::test]
async fn slowness_fails() {
    let port = greeter("220\r\n").await;
    let outcome = ask(port, json!({"expect": "220", "max_response_ms": 0.001}), LONG).await.unwrap();
    assert!(!outcome.is_ok && outcome.message.contains("more than the 0.001 ms of `max_response_ms`"), "{outcome:?}");
    assert!(outcome.metrics["response_ms"] > 0.001);
}

#[test]
fn bad_configs_are_refused_with_every_fault() {
    let text = faults(json!({"host": "http://x", "ip_version": 5, "expect": "", "expect_regex": "(", "max_bytes": 0}));
    for part in [
        "config.host: `http://x` is no host name: it holds `:`",
        "config.port: is required",
        "config.ip_version: expected 4 or 6, found 5",
        "config.expect: must not be empty",
        "config.expect_regex: expected a regular expression",
        "config.max_bytes: expected a whole number from 1 to 1048576",
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    let text = faults(json!({"host": "x", "port": 70000, "expect": "a", "expect_regex": "b", "max_response_ms": 0}));
    for part in ["config.port", "stands beside `expect`", "config.max_response_ms: must be more than 0"] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    assert!(faults(json!({"host": "x", "port": 1, "send": "x".repeat(65537)})).contains("config.send: is longer"));
    assert_eq!(faults(json!({"host": "[::1]", "port": 1})), "");
}
