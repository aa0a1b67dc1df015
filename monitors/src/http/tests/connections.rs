//! How the server is reached: names, ports, redirects, IP versions, time.

use std::net::Ipv6Addr;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use watchbell_contract::testing::context;

use super::server::{Reply, Server, answer, redirect};
use super::{PATIENCE, ask_within, assert_holds, failed, ok, prepare};

#[tokio::test]
async fn a_refused_connection_names_the_server_and_the_cause() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let message = failed(json!({"url": format!("http://127.0.0.1:{port}/x")})).await;
    let begin = format!("GET http://127.0.0.1:{port}/x: cannot connect to `127.0.0.1:{port}`: ");
    assert!(message.starts_with(&begin), "{message}");
    assert_holds(&message, &["Connection refused (os error 111)"]);
    assert_eq!(message.matches("refused").count(), 1, "{message}");
}

#[tokio::test]
async fn a_name_that_is_unknown_is_named() {
    // RFC 6761: `invalid` never exists.
    let message = failed(json!({"url": "http://no-such-host.invalid/"})).await;
    assert_holds(
        &message,
        &[
            "GET http://no-such-host.invalid/: the name `no-such-host.invalid` cannot be used: failed to lookup address information",
        ],
    );
}

#[tokio::test]
async fn a_server_that_hangs_up_gives_no_valid_answer() {
    let server = Server::always("").await;
    let message = failed(json!({"url": server.url("/")})).await;
    assert_holds(&message, &["connected to `127.0.0.1:", "but it gave no valid answer: connection closed"]);
    let server = Server::always("SSH-2.0-OpenSSH_9.9\r\n").await;
    assert_holds(&failed(json!({"url": server.url("/")})).await, &["no valid answer: invalid HTTP"]);
}

#[tokio::test]
async fn the_time_limit_says_how_far_the_request_had_come() {
    let server = Server::start(|path| {
        let begin = if path == "/body" { "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf" } else { "" };
        Reply::Hang(begin.into())
    })
    .await;
    for (path, says) in
        [("/", ", still waiting for its answer"), ("/body", "/body began its answer, but its body has not ended")]
    {
        let outcome = ask_within(&json!({"url": server.url(path)}), Duration::from_millis(300)).await.unwrap();
        assert!(!outcome.is_ok);
        assert_holds(&outcome.message, &["no answer within 285 ms: ", says]);
    }
}

#[tokio::test]
async fn a_server_that_takes_no_connection_up_is_told_from_one_that_does_not_answer() {
    // It listens and never speaks TLS: the handshake stands still.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = json!({"url": format!("https://127.0.0.1:{port}/")});
    let outcome = ask_within(&config, Duration::from_millis(300)).await.unwrap();
    assert_holds(&outcome.message, &[&format!("still connecting to `127.0.0.1:{port}`")]);
}

#[tokio::test]
async fn a_check_that_is_dropped_closes_its_connection() {
    let server = Server::start(|_| Reply::Hang(Vec::new())).await;
    let config = json!({"url": server.url("/")});
    let check = tokio::spawn(async move { ask_within(&config, Duration::from_secs(60)).await });
    while server.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    check.abort();
    tokio::time::timeout(Duration::from_secs(5), server.left.notified()).await.unwrap();
}

#[tokio::test]
async fn each_check_opens_a_connection_of_its_own() {
    let server = Server::always("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n").await;
    let check = prepare(&json!({"url": server.url("/")})).unwrap();
    for asked in 1..=3 {
        assert!(check.check(&context(PATIENCE)).await.unwrap().is_ok);
        assert_eq!(server.connections(), asked);
    }
}

#[tokio::test]
async fn redirects_are_followed_and_told() {
    let server = Server::start(|path| {
        Reply::Bytes(match path {
            "/a" => redirect("302 Found", "/b?session=abc"),
            "/b?session=abc" => redirect("301 Moved Permanently", "/c"),
            _ => answer("200 OK", "here"),
        })
    })
    .await;
    let message = ok(json!({"url": server.url("/a"), "body_contains": "here"})).await;
    assert_holds(&message, &["/a answered 200 OK (redirected to http://127.0.0.1:", "/c) in "]);
    ok(json!({"url": server.url("/a"), "max_redirects": 2})).await;
    let message = failed(json!({"url": server.url("/a"), "max_redirects": 1})).await;
    assert_holds(&message, &["/a: more than 1 redirects"]);
}

#[tokio::test]
async fn a_loop_ends_and_an_unfollowed_redirect_is_the_answer() {
    let server = Server::always(redirect("302 Found", "/again?token=abc")).await;
    assert_holds(&failed(json!({"url": server.url("/")})).await, &["more than 10 redirects"]);
    assert_eq!(server.requests().len(), 11);

    let config = json!({"url": server.url("/"), "follow_redirects": false});
    let message = failed(config).await;
    assert_holds(&message, &["answered 302 Found (a redirect to http://127.0.0.1:", "/again?...) in ", "200-299"]);
    ok(json!({"url": server.url("/"), "follow_redirects": false, "status": 302})).await;
}

#[tokio::test]
async fn a_redirect_to_another_scheme_is_refused() {
    for (location, scheme) in
        [("ftp://127.0.0.1/pub", "ftp"), ("file:///etc/passwd", "file"), ("javascript:x", "javascript")]
    {
        let server = Server::always(redirect("302 Found", location)).await;
        let message = failed(json!({"url": server.url("/"), "status": [200, 302]})).await;
        let says = format!("a redirect to the scheme `{scheme}`, which is neither http nor https");
        assert_holds(&message, &[&says]);
        ok(json!({"url": server.url("/"), "status": 302, "follow_redirects": false})).await;
    }
}

#[tokio::test]
async fn a_password_in_a_redirect_is_not_told() {
    let server = Server::always(redirect("302 Found", "http://ops:hunter2@127.0.0.1:1/x")).await;
    let message = failed(json!({"url": server.url("/"), "follow_redirects": false})).await;
    assert_holds(&message, &["(a redirect to http://127.0.0.1:1/x)"]);
    assert!(!failed(json!({"url": server.url("/")})).await.contains("hunter2"));
}

#[tokio::test]
async fn a_failure_behind_a_redirect_names_that_server() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let server = Server::always(redirect("302 Found", &format!("http://127.0.0.1:{port}/"))).await;
    let message = failed(json!({"url": server.url("/")})).await;
    assert_holds(&message, &[&format!("cannot connect to `127.0.0.1:{port}`")]);
}

#[tokio::test]
async fn only_the_wanted_ip_version_is_used() {
    let reply = |_: &str| Reply::Bytes(answer("200 OK", ""));
    let four = Server::start(reply).await;
    ok(json!({"url": four.url_at("localhost", "/"), "ip_version": 4})).await;
    let six = Server::start_at(Ipv6Addr::LOCALHOST.into(), reply).await;
    ok(json!({"url": six.url_at("[::1]", "/"), "ip_version": 6})).await;
    // Whether `localhost` has an address of the other version is the machine's matter; nothing listens there.
    failed(json!({"url": four.url_at("localhost", "/"), "ip_version": 6})).await;
    failed(json!({"url": six.url_at("localhost", "/"), "ip_version": 4})).await;
}

#[tokio::test]
async fn a_redirect_to_an_address_of_the_other_version_is_refused() {
    let server = Server::always(redirect("302 Found", "http://[::1]:9/")).await;
    let message = failed(json!({"url": server.url("/"), "ip_version": 4})).await;
    assert_holds(&message, &["a redirect to the address `::1`, which is no IPv4 address"]);
}
