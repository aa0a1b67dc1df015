//! What the answer must be.

use std::time::Duration;

use serde_json::{Value, json};

use super::server::{Reply, Server, answer, answer_with};
use super::{ask, assert_holds, failed, ok};

#[tokio::test]
async fn a_good_answer_is_ok_and_measured() {
    let server = Server::always(answer("200 OK", "hello")).await;
    let outcome = ask(json!({"url": server.url("/health?token=abc")})).await;
    assert!(outcome.is_ok, "{}", outcome.message);
    let begin = format!("GET http://127.0.0.1:{}/health?... answered 200 OK in ", server.port);
    assert!(outcome.message.starts_with(&begin) && outcome.message.ends_with(" ms"), "{}", outcome.message);
    assert_eq!(outcome.metrics["status"], 200.0);
    assert_eq!(outcome.metrics["body_bytes"], 5.0);
    assert!(outcome.metrics["response_ms"] > 0.0);
    assert!(!outcome.metrics.contains_key("certificate_days_left"));
    assert_holds(&server.requests()[0], &["GET /health?token=abc HTTP/1.1", "user-agent: watchbell/"]);
}

#[tokio::test]
async fn a_fragment_and_odd_characters_are_no_redirect() {
    let server = Server::always(answer("200 OK", "")).await;
    let message = ok(json!({"url": server.url("/a b|{c}/\u{e9}?x={d}|#part")})).await;
    assert_holds(&message, &["?... answered 200 OK in "]);
    assert!(!server.requests()[0].contains("part"));
}

#[tokio::test]
async fn method_headers_and_body_are_sent() {
    let server = Server::always(answer("200 OK", "")).await;
    ok(json!({
        "url": server.url("/"),
        "method": "POST",
        "headers": {"Content-Type": "application/json", "User-Agent": "probe", "Host": "shop.example.com"},
        "body": "{\"ping\": 1}",
    }))
    .await;
    let request = &server.requests()[0];
    assert_holds(
        request,
        &["POST / ", "content-type: application/json", "user-agent: probe", "host: shop.example.com", "{\"ping\": 1}"],
    );
    assert!(!request.contains("watchbell") && !request.contains("127.0.0.1"), "{request}");
}

#[tokio::test]
async fn a_wrong_status_fails_with_what_the_server_said() {
    let server = Server::always(answer("503 Service Unavailable", "<h1>Down\n\n for\tmaintenance</h1>")).await;
    let outcome = ask(json!({"url": server.url("/"), "body_contains": "never looked at"})).await;
    assert!(!outcome.is_ok);
    assert_holds(
        &outcome.message,
        &[
            "answered 503 Service Unavailable in ",
            " ms, expected status 200-299; body starts: \"<h1>Down for maintenance</h1>\"",
        ],
    );
    assert!(!outcome.message.contains("never"), "{}", outcome.message);
    assert_eq!(outcome.metrics["status"], 503.0);

    let message = failed(json!({"url": server.url("/"), "status": [200, "3xx", "204-206"]})).await;
    assert_holds(&message, &["expected status 200, 300-399, 204-206"]);
    for status in [json!(503), json!("5xx"), json!(["200", "500-503"])] {
        ok(json!({"url": server.url("/"), "status": status})).await;
    }
}

#[tokio::test]
async fn a_long_body_is_shown_in_part_and_an_empty_one_is_named() {
    let server = Server::start(|path| {
        Reply::Bytes(answer("500 Internal Server Error", &"x".repeat(if path == "/long" { 5000 } else { 0 })))
    })
    .await;
    let long = failed(json!({"url": server.url("/long")})).await;
    assert!(long.ends_with(&format!("body starts: \"{}\"", "x".repeat(200))), "{long}");
    assert!(failed(json!({"url": server.url("/")})).await.ends_with("; the body is empty"));
}

#[tokio::test]
async fn texts_and_patterns_of_the_body() {
    let server = Server::always(answer("200 OK", "version 1.23\nall systems nominal")).await;
    let with = |key: &str, value: Value| json!({"url": server.url("/"), key: value});
    for (key, value) in [
        ("body_contains", json!("nominal")),
        ("body_contains", json!(["version", "systems"])),
        ("body_matches", json!(r"version 1\.\d+")),
        ("body_not_contains", json!("maintenance")),
        ("body_not_matches", json!("(?i)ERROR")),
    ] {
        ok(with(key, value)).await;
    }
    for (key, value, says) in [
        ("body_contains", json!(["version", "degraded"]), "in its body `degraded` is missing; body starts: \"version"),
        ("body_matches", json!(r"version 2\.\d+"), r"nothing matches `version 2\.\d+`; body"),
        ("body_not_contains", json!(["absent", "systems"]), "`systems` stands in it"),
        ("body_not_matches", json!("(?i)NOMINAL"), "`(?i)NOMINAL` matches"),
    ] {
        assert_holds(&failed(with(key, value)).await, &[says]);
    }
}

const HEALTH: &str = r#"{"status": "up", "queue": 120, "ratio": 1.0, "errors": [], "great": 9007199254740993,
    "items": [{"n": 1, "ok": true}, {"n": 7, "ok": false}], "nothing": null}"#;

#[tokio::test]
async fn json_that_holds() {
    let server = Server::always(answer("200 OK", HEALTH)).await;
    for assertion in [
        json!({"path": "$.status"}),
        json!({"path": "$.status", "equals": "up", "matches": "^u"}),
        json!({"path": "$.queue", "min": 120, "max": 120}),
        json!({"path": "$.ratio", "equals": 1}),
        json!({"path": "$.errors", "equals": []}),
        json!({"path": "$.items[*].n", "min": 1, "max": 7}),
        json!({"path": "$.items[0]", "equals": {"ok": true, "n": 1.0}}),
        json!({"path": "$.queue", "matches": "^120$"}),
        json!({"path": "$.missing", "exists": false}),
        json!({"path": "$.nothing", "exists": true}),
        json!({"path": "$.great", "equals": 9_007_199_254_740_993_i64}),
    ] {
        ok(json!({"url": server.url("/"), "json": [assertion]})).await;
    }
}

#[tokio::test]
async fn json_that_does_not_hold() {
    let server = Server::always(answer("200 OK", HEALTH)).await;
    for (assertion, says) in [
        (json!({"path": "$.status", "equals": "down"}), r#"`$['status']` is "up", expected "down""#),
        (json!({"path": "$.queue", "max": 100}), "`$['queue']` is 120, above the maximum 100"),
        (json!({"path": "$.queue", "min": 120.5}), "below the minimum 120.5"),
        (json!({"path": "$.status", "min": 1}), r#"is "up", expected a number"#),
        (json!({"path": "$.items[*].n", "max": 5}), "`$['items'][1]['n']` is 7, above the maximum 5"),
        (json!({"path": "$.items[*].ok", "equals": true}), "`$['items'][1]['ok']` is false, expected true"),
        (json!({"path": "$.items[0]", "equals": {"n": 1}}), r#"is {"n":1,"ok":true}, expected {"n":1}"#),
        (json!({"path": "$.missing", "equals": 1}), "`$.missing` is missing"),
        (json!({"path": "$.status", "exists": false}), r#"`$['status']` exists: "up""#),
        (json!({"path": "$.status", "matches": "^down"}), "which does not match `^down`"),
        (json!({"path": "$.great", "equals": 9_007_199_254_740_992_i64}), "expected 9007199254740992"),
    ] {
        assert_holds(&failed(json!({"url": server.url("/"), "json": [assertion]})).await, &[says, "body starts"]);
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_says_so() {
    let server = Server::always(answer("200 OK", "<html>")).await;
    let message = failed(json!({"url": server.url("/"), "json": [{"path": "$.a"}]})).await;
    assert_holds(&message, &["its body is not JSON (expected value", "body starts: \"<html>\""]);
}

#[tokio::test]
async fn many_problems_are_counted() {
    let server = Server::always(answer("200 OK", "{}")).await;
    let json: Vec<_> = (0..20).map(|n| json!({"path": format!("$.x{n}")})).collect();
    let message = failed(json!({"url": server.url("/"), "json": json})).await;
    assert_holds(&message, &["`$.x7` is missing; and 12 more; body starts"]);
    assert!(!message.contains("$.x8"), "{message}");
}

#[tokio::test]
async fn a_slow_answer_fails_with_its_time() {
    let server = Server::start(|_| Reply::Late(Duration::from_millis(40), answer("200 OK", "late"))).await;
    let message = failed(json!({"url": server.url("/"), "max_response_ms": 20})).await;
    assert_holds(&message, &["answered 200 OK in ", "slower than the 20 ms of `max_response_ms`"]);
    ok(json!({"url": server.url("/"), "max_response_ms": 9000})).await;
}

#[tokio::test]
async fn a_body_is_read_up_to_its_bound() {
    const BOUND: usize = 1024 * 1024;
    let server = Server::start(|path| {
        let length = if path == "/long" { BOUND + 1 } else { BOUND };
        Reply::Bytes(answer("200 OK", &format!("begin{}", "x".repeat(length - 5))))
    })
    .await;
    let outcome = ask(json!({"url": server.url("/exact"), "body_not_contains": "absent"})).await;
    assert!(outcome.is_ok, "{}", outcome.message);

    let outcome = ask(json!({"url": server.url("/long"), "body_contains": "begin"})).await;
    assert!(outcome.is_ok, "{}", outcome.message);
    assert_eq!(outcome.metrics["body_bytes"], 1_048_576.0);
    for (key, says) in [
        ("body_contains", "`absent` is missing in the part of it that is read"),
        ("body_not_contains", "too long to say that nothing unwanted stands in it"),
    ] {
        assert_holds(&failed(json!({"url": server.url("/long"), key: "absent"})).await, &[says]);
    }
    let message = failed(json!({"url": server.url("/long"), "json": [{"path": "$.a"}]})).await;
    assert_holds(&message, &["longer than the 1048576 bytes that are read"]);
}

#[tokio::test]
async fn a_packed_body_is_unpacked() {
    // `printf unpacked | gzip -n`
    const PACKED: [u8; 28] = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x2b, 0xcd, 0x2b, 0x48, 0x4c, 0xce, 0x4e, 0x4d, 1, 0, 0x96, 0x62, 0x2f,
        0xca, 8, 0, 0, 0,
    ];
    let mut reply = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 28\r\n\r\n".to_vec();
    reply.extend_from_slice(&PACKED);
    let server = Server::always(reply).await;
    ok(json!({"url": server.url("/"), "body_matches": "^unpacked$"})).await;
}

#[tokio::test]
async fn a_body_that_breaks_off_fails_though_the_status_is_right() {
    let server = Server::always("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    let message = failed(json!({"url": server.url("/")})).await;
    assert_holds(&message, &["answered 200 OK", "its body broke off after 4 bytes: ", "body starts: \"half\""]);
}

#[tokio::test]
async fn head_has_no_body_and_that_is_fine() {
    let server = Server::always(answer_with("200 OK", "x-a: b\r\n", "ignored")).await;
    ok(json!({"url": server.url("/"), "method": "HEAD"})).await;
    assert_holds(&server.requests()[0], &["HEAD / "]);
}
