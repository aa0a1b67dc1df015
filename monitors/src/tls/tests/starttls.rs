//! STARTTLS, against servers that speak a protocol in plain words first.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::StartTls;
use super::{Script, ask, authority, serve_plain, serve_scripted, server_config};

#[tokio::test]
async fn mail_protocols_go_over_to_tls() {
    let authority = authority();
    let scripts: [(&str, Script); 3] = [
        (
            "smtp",
            &[
                ("220-mx.test\r\n220 ESMTP\r\n", "EHLO [127.0.0.1]\r\n"),
                ("250-mx.test\r\n250-starttls\r\n250 SIZE\r\n", "STARTTLS\r\n"),
                ("220 go ahead\r\n", ""),
            ],
        ),
        ("imap", &[("* OK IMAP4rev1\r\n", "w1 STARTTLS\r\n"), ("* noise\r\nw1 OK begin\r\n", "")]),
        ("pop3", &[("+OK POP3\r\n", "STLS\r\n"), ("+OK begin\r\n", "")]),
    ];
    for (word, script) in scripts {
        let config = server_config(authority.issue(&["www.test"], -1.0, 60.0), rustls::ALL_VERSIONS, None);
        let port = serve_scripted(config, script).await;
        let outcome = ask(port, Some(authority.ca_file()), json!({"starttls": word})).await.unwrap();
        assert!(outcome.is_ok, "{word}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_mail_server_without_tls_is_told() {
    let scripts: [(&str, Script, &str, &str); 7] = [
        ("smtp", &[], "554 go away\r\n", "does not speak SMTP: its greeting is `554 go away`"),
        ("smtp", &[("220 x\r\n", "EHLO [127.0.0.1]\r\n")], "250 SIZE\r\n", "does not offer STARTTLS"),
        ("smtp", &[("220 x\r\n", "EHLO [127.0.0.1]\r\n")], "550 no\r\n", "to `EHLO` it answers `550 no`"),
        ("imap", &[("* OK x\r\n", "w1 STARTTLS\r\n")], "w1 BAD what\r\n", "to `STARTTLS` it answers `w1 BAD what`"),
        ("imap", &[], "* BYE\r\n", "does not speak IMAP: its greeting is `* BYE`"),
        ("pop3", &[("+OK x\r\n", "STLS\r\n")], "-ERR no\r\n", "to `STLS` it answers `-ERR no`"),
        ("pop3", &[], "x", "breaks off before TLS begins: the other side closed the connection"),
    ];
    let authority = authority();
    for (word, script, last, told) in scripts {
        let port = serve_plain(async move |mut stream: TcpStream| {
            for (say, expect) in script {
                stream.write_all(say.as_bytes()).await.unwrap();
                stream.read_exact(&mut vec![0; expect.len()]).await.unwrap();
            }
            stream.write_all(last.as_bytes()).await.unwrap();
        })
        .await;
        let outcome = ask(port, Some(authority.ca_file()), json!({"starttls": word})).await.unwrap();
        assert!(!outcome.is_ok && outcome.message.contains(told), "{told} is missing in {outcome:?}");
    }
}

#[tokio::test]
async fn endless_lines_before_tls_are_bounded() {
    let port = serve_plain(async |mut stream: TcpStream| while stream.write_all(&[b'x'; 512]).await.is_ok() {}).await;
    let outcome = ask(port, Some(authority().ca_file()), json!({"starttls": "smtp"})).await.unwrap();
    assert!(outcome.message.contains("sends a line of more than 2048 bytes"), "{outcome:?}");
}

#[test]
fn the_port_follows_the_protocol() {
    for (word, port) in [("smtp", 25), ("imap", 143), ("pop3", 110)] {
        assert_eq!(StartTls::from_word(word).unwrap().default_port(), port);
    }
}
