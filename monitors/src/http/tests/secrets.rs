//! Secrets reach the server that they are for, and nobody else.

use serde_json::json;

use super::server::{Reply, Server, answer, redirect};
use super::{PATIENCE, ask_within, assert_holds, failed, ok};

/// `ops:hunter2`, as basic authentication writes it.
const ENCODED: &str = "b3BzOmh1bnRlcjI=";

#[tokio::test]
async fn each_field_for_secrets_is_resolved_and_sent() {
    let server = Server::always(answer("200 OK", "")).await;
    let url = server.url("/");
    ok(json!({"url": url, "basic_auth": {"username": "ops", "password": "${env:PASSWORD}"}})).await;
    ok(json!({"url": url, "bearer_token": "${env:TOKEN}"})).await;
    ok(json!({"url": url, "headers": {"X-Key": "k ${env:TOKEN}"}, "body": "p=${env:PASSWORD}", "method": "POST"}))
        .await;
    let requests = server.requests();
    assert_holds(&requests[0], &[&format!("authorization: Basic {ENCODED}\r\n")]);
    assert_holds(&requests[1], &["authorization: Bearer tok-8d1f\r\n"]);
    assert_holds(&requests[2], &["x-key: k tok-8d1f\r\n", "\r\n\r\np=hunter2"]);
}

#[tokio::test]
async fn a_secret_that_the_server_echoes_is_concealed() {
    let body = format!(r#"{{"got": "tok-8d1f hunter2 {ENCODED}", "k": {{"hunter2": 1}}}}"#);
    let server = Server::start(move |path| {
        Reply::Bytes(match path {
            "/moved" => redirect("302 Found", "/hunter2/tok-8d1f"),
            "/hunter2/tok-8d1f" => answer("500 hunter2", ""),
            _ => answer("200 OK", &body),
        })
    })
    .await;
    let auth = json!({"username": "ops", "password": "${env:PASSWORD}"});
    let headers = json!({"X-Key": "${env:TOKEN}"});
    for (path, json) in [
        ("/", json!([{"path": "$.got", "equals": "x"}])),
        ("/", json!([{"path": "$.k.*", "equals": 2}])),
        ("/moved", json!([])),
    ] {
        let message =
            failed(json!({"url": server.url(path), "basic_auth": auth, "headers": headers, "json": json})).await;
        assert_holds(&message, &["***"]);
        for secret in ["tok-8d1f", "hunter2", ENCODED] {
            assert!(!message.contains(secret), "{message}");
        }
    }
}

#[tokio::test]
async fn no_part_of_a_secret_is_left_where_a_text_is_cut() {
    // Both cuts, of the excerpt and of the JSON value, would fall into the secret.
    let value = format!("{}hunter2", "x".repeat(75));
    let body = format!(r#"{{"value": "{value}", "more": "{}hunter2"}}"#, "y".repeat(92));
    let server = Server::always(answer("200 OK", &body)).await;
    let auth = json!({"username": "ops", "password": "${env:PASSWORD}"});
    let json = json!([{"path": "$.value", "equals": "z"}]);
    let message = failed(json!({"url": server.url("/"), "basic_auth": auth, "json": json})).await;
    assert_holds(&message, &["xxx***\"", "yyy***"]);
    assert!(!message.contains("hun"), "{message}");
}

#[tokio::test]
async fn a_literal_header_is_not_concealed() {
    let server = Server::always(answer("500 Oops", "we speak text/html only")).await;
    let message = failed(json!({"url": server.url("/"), "headers": {"Accept": "text/html"}})).await;
    assert_holds(&message, &["we speak text/html only"]);
}

#[tokio::test]
async fn credentials_follow_a_redirect_within_the_server_only() {
    let other = Server::always(answer("200 OK", "")).await;
    let away = other.url("/away");
    let server = Server::start(move |path| {
        Reply::Bytes(match path {
            "/inside?query" => redirect("302 Found", "/end"),
            "/outside" => redirect("302 Found", &away),
            _ => answer("200 OK", ""),
        })
    })
    .await;
    let credentials = [
        ("basic_auth", json!({"username": "ops", "password": "${env:PASSWORD}"})),
        ("bearer_token", json!("${env:TOKEN}")),
        ("headers", json!({"Authorization": "${env:TOKEN}"})),
        ("headers", json!({"Cookie": "id=${env:TOKEN}"})),
    ];
    for (key, value) in credentials {
        ok(json!({"url": server.url("/inside?query"), key: value})).await;
        let request = server.requests().pop().unwrap();
        assert!(!request.contains("referer"), "{request}");
        assert!(request.contains("authorization: ") || request.contains("cookie: "), "{request}");
        ok(json!({"url": server.url("/outside"), key: value})).await;
        let request = other.requests().pop().unwrap();
        for secret in ["authorization", "cookie", "tok-8d1f", ENCODED] {
            assert!(!request.contains(secret), "{request}");
        }
    }
}

#[tokio::test]
async fn what_the_client_would_not_take_away_stays_at_home() {
    let other = Server::always(answer("200 OK", "")).await;
    let away = other.url("/away");
    let server = Server::start(move |path| {
        Reply::Bytes(match path {
            "/inside" => redirect("307 Temporary Redirect", "/end"),
            "/outside" => redirect("307 Temporary Redirect", &away),
            _ => answer("200 OK", ""),
        })
    })
    .await;
    for (key, value) in [
        ("headers", json!({"X-Key": "${env:TOKEN}"})),
        ("headers", json!({"Host": "shop.example.com"})),
        ("body", json!("password=${env:PASSWORD}")),
    ] {
        ok(json!({"url": server.url("/inside"), "method": "POST", key: value})).await;
        let message = failed(json!({"url": server.url("/outside"), "method": "POST", key: value})).await;
        assert_holds(&message, &["a redirect to `http://127.0.0.1:", "must not get the secret"]);
    }
    assert_eq!(other.requests(), Vec::<String>::new());
    // Without a secret there is nothing to keep.
    ok(json!({"url": server.url("/outside"), "headers": {"X-Key": "open"}})).await;
}

#[tokio::test]
async fn a_secret_that_cannot_be_had_or_sent_is_named_and_not_shown() {
    for (config, says) in [
        (json!({"url": "http://127.0.0.1:1/", "bearer_token": "${env:MISSING}"}), "the secret `env:MISSING` cannot"),
        (json!({"url": "http://127.0.0.1:1/", "bearer_token": "${env:LINES}"}), "the header `Authorization` holds"),
        (json!({"url": "http://127.0.0.1:1/", "headers": {"X-Key": "${env:LINES}"}}), "the header `x-key` holds"),
    ] {
        let error = format!("{:#}", ask_within(&config, PATIENCE).await.unwrap_err());
        assert_holds(&error, &[says]);
        assert!(!error.contains("two"), "{error}");
    }
}
