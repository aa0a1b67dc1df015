//! https: whom a check trusts, and how long the certificate lasts.

use std::io::Write;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use watchbell_contract::Severity;

use super::server::{Identity, Reply, Server, answer, redirect};
use super::{PATIENCE, ask, ask_within, assert_holds, failed, ok};

async fn fine(identity: &Identity) -> Server {
    Server::start_tls(identity, |_| Reply::Bytes(answer("200 OK", "secure"))).await
}

#[tokio::test]
async fn a_private_ca_is_trusted_by_its_file_only() {
    let identity = Identity::new("127.0.0.1", 90);
    let server = fine(&identity).await;
    let outcome = ask(json!({"url": server.url("/"), "ca_file": identity.ca_path(), "body_contains": "secure"})).await;
    assert!(outcome.is_ok, "{}", outcome.message);
    assert_holds(&outcome.message, &[" ms; certificate valid for 90 days"]);
    let days = outcome.metrics["certificate_days_left"];
    assert!((90.0..=90.1).contains(&days), "{days}");

    let message = failed(json!({"url": server.url("/")})).await;
    let begin = format!("the TLS handshake with `127.0.0.1:{}` failed: ", server.port);
    assert_holds(&message, &[&begin, "signed by nobody who is trusted", "`ca_file`"]);
    let other = Identity::new("127.0.0.1", 90);
    assert_holds(
        &failed(json!({"url": server.url("/"), "ca_file": other.ca_path()})).await,
        &["the TLS handshake", "its certificate is not valid: BadSignature"],
    );
}

#[tokio::test]
async fn a_certificate_for_another_name_and_an_expired_one_are_told_apart() {
    let identity = Identity::new("shop.example.com", 90);
    let server = fine(&identity).await;
    let message = failed(json!({"url": server.url("/"), "ca_file": identity.ca_path()})).await;
    assert_holds(&message, &["its certificate is not for `127.0.0.1`, but for", "shop.example.com"]);
    ok(json!({"url": server.url("/"), "verify_certificate": false})).await;

    let identity = Identity::new("127.0.0.1", -2);
    let server = fine(&identity).await;
    let message = failed(json!({"url": server.url("/"), "ca_file": identity.ca_path()})).await;
    assert_holds(&message, &["its certificate has expired, it was valid until 20", " UTC"]);
    // Taken all the same, but its days are told.
    let unverified = json!({"url": server.url("/"), "verify_certificate": false, "min_certificate_days": 0});
    assert_holds(&failed(unverified).await, &["its certificate is valid for -2.0 more days, fewer than the 0"]);
}

#[tokio::test]
async fn a_certificate_that_ends_soon_warns_first() {
    let config = |server: &Server, identity: &Identity, more: Value| {
        let mut config = json!({"url": server.url("/"), "ca_file": identity.ca_path(), "min_certificate_days": 14});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    for (days, is_ok, severity) in
        [(15, true, None), (10, false, Some(Severity::Warning)), (4, false, Some(Severity::Warning)), (2, false, None)]
    {
        let identity = Identity::new("127.0.0.1", days);
        let server = fine(&identity).await;
        let outcome = ask(config(&server, &identity, json!({}))).await;
        assert_eq!((outcome.is_ok, outcome.severity), (is_ok, severity), "{days}: {}", outcome.message);
        if !is_ok {
            assert_holds(&outcome.message, &["more days, fewer than the 14 of `min_certificate_days`"]);
        }
    }
    // Anything else that is wrong has the row's own severity, and the certificate is told beside it.
    let identity = Identity::new("127.0.0.1", 10);
    let server = fine(&identity).await;
    let message = failed(config(&server, &identity, json!({"status": 404}))).await;
    assert_holds(&message, &["expected status 404", "`min_certificate_days`"]);
}

#[tokio::test]
async fn an_answer_without_tls_shows_no_certificate() {
    let plain = Server::always(answer("200 OK", "")).await;
    let identity = Identity::new("127.0.0.1", 90);
    let to = plain.url("/plain");
    let server = Server::start_tls(&identity, move |_| Reply::Bytes(redirect("302 Found", &to))).await;
    let config = json!({"url": server.url("/"), "ca_file": identity.ca_path(), "min_certificate_days": 14});
    assert_holds(&failed(config).await, &["/plain` shows no certificate"]);
}

#[tokio::test]
async fn http_2_is_spoken_where_the_server_offers_it() {
    let identity = Identity::new("127.0.0.1", 90);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = identity.acceptor(&["h2", "http/1.1"]);
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(request) = connection.accept().await {
            let Ok((_, mut respond)) = request else { return };
            let mut body = respond.send_response(http::Response::new(()), false).unwrap();
            body.send_data("two".into(), true).unwrap();
        }
    });
    let config =
        json!({"url": format!("https://127.0.0.1:{port}/"), "ca_file": identity.ca_path(), "body_matches": "^two$"});
    let outcome = ask(config).await;
    assert!(outcome.is_ok, "{}", outcome.message);
    assert!(outcome.metrics.contains_key("certificate_days_left"));
    server.await.unwrap();
}

#[tokio::test]
async fn https_to_a_plain_port_is_recognised() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        stream.write_all(&answer("400 Bad Request", "")).await.unwrap();
    });
    let message = failed(json!({"url": format!("https://127.0.0.1:{port}/")})).await;
    assert_holds(&message, &["the TLS handshake with", "(hint: is this a port for plain http?)"]);
    server.await.unwrap();
}

#[tokio::test]
async fn a_ca_file_that_is_none_is_named_and_not_quoted() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"hush: not a certificate").unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (path, says) in [
        (file.path(), "holds no certificate"),
        (directory.path(), "is no regular file"),
        (&directory.path().join("none.pem"), "No such file"),
    ] {
        let config = json!({"url": "https://127.0.0.1:1/", "ca_file": path});
        let error = format!("{:#}", ask_within(&config, PATIENCE).await.unwrap_err());
        assert_holds(&error, &["config.ca_file: `/", says]);
        assert!(!error.contains("hush"), "{error}");
    }
}
