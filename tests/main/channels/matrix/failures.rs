//! What cannot be delivered, and what is said of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use watchbell::channels::{ChannelSettings, open};
use watchbell::ports::DeliveryError;

use super::{alert, channel, delivered, room_and_channel, settings};
use crate::support::homeserver::{BOT, Homeserver, MessageLimit};

/// What a failure of the whole channel says; the token is in none.
async fn unavailable(channel: &dyn watchbell::ports::Channel, token: &str) -> (String, Option<Duration>) {
    match channel.deliver(&alert("x")).await {
        Err(DeliveryError::Unavailable { reason, after }) => {
            assert!(!reason.contains(token) && !reason.contains('\n'), "{reason}");
            (reason, after)
        }
        other => panic!("expected that the channel is not available, found {other:?}"),
    }
}

fn opened(url: &str, settings: &ChannelSettings) -> std::sync::Arc<dyn watchbell::ports::Channel> {
    open(url, settings).unwrap()
}

#[tokio::test]
async fn a_wrong_token_holds_the_channel_until_it_is_mended() {
    let homeserver = Homeserver::shared();
    let (room, _) = room_and_channel(&homeserver);
    let (settings, pass) = settings("syt_wrong_token");
    let url = format!("matrix+{}#room={room}&token=${{pass:matrix/bot-token}}", homeserver.url());
    let channel = opened(&url, &settings);
    let (reason, _) = unavailable(&*channel, "syt_wrong_token").await;
    assert!(reason.starts_with("the homeserver answered 401 Unauthorized: M_UNKNOWN_TOKEN: "), "{reason}");
    assert!(reason.contains("(hint: log the bot in again"), "{reason}");
    for unsendable in ["", "syt_a\nsyt_b"] {
        *pass.0.lock().unwrap() = unsendable.to_owned();
        let (reason, _) = unavailable(&*channel, "syt_").await;
        assert!(reason.contains("`token` is empty or holds a line break"), "{reason}");
    }
    *pass.0.lock().unwrap() = homeserver.token(BOT);
    delivered(&*channel, &alert("mended")).await;
    assert_eq!(homeserver.messages(&room).len(), 1);
    assert!(!channel.describe().contains(&homeserver.token(BOT)), "{}", channel.describe());
}

#[tokio::test]
async fn a_bot_that_is_not_invited_says_so_and_delivers_once_it_is() {
    let homeserver = Homeserver::shared();
    let room = homeserver.create_room(&[]);
    let channel = channel(&homeserver, &room, "");
    let (reason, _) = unavailable(&*channel, &homeserver.token(BOT)).await;
    assert!(reason.starts_with("the homeserver answered 403 Forbidden: M_FORBIDDEN: "), "{reason}");
    assert!(reason.ends_with(&format!("(hint: invite the bot into the room `{room}`)")), "{reason}");
    homeserver.invite(&room, BOT);
    delivered(&*channel, &alert("let in")).await;
    assert_eq!(homeserver.messages(&room).len(), 1);
}

#[tokio::test]
async fn an_alias_of_no_room_is_named() {
    let homeserver = Homeserver::shared();
    let channel = channel(&homeserver, "#nobody-has-this:localhost", "");
    let (reason, _) = unavailable(&*channel, &homeserver.token(BOT)).await;
    assert!(reason.contains("404 Not Found: M_NOT_FOUND"), "{reason}");
    assert!(reason.contains("(hint: no room has the alias `#nobody-has-this:localhost`"), "{reason}");
}

#[tokio::test]
async fn a_room_of_no_server_holds_the_channel() {
    let homeserver = Homeserver::shared();
    let channel = channel(&homeserver, "!nothing:localhost", "");
    let (reason, _) = unavailable(&*channel, &homeserver.token(BOT)).await;
    assert!(reason.contains("(hint: invite the bot into the room `!nothing:localhost`)"), "{reason}");
}

#[tokio::test]
async fn an_address_that_is_no_homeserver_is_named_as_such() {
    let homeserver = Homeserver::shared();
    let token = homeserver.token(BOT);
    let url = format!("matrix+{}/elsewhere#room=!a:localhost&token=${{pass:t}}", homeserver.url());
    let (reason, _) = unavailable(&*opened(&url, &settings(&token).0), &token).await;
    assert!(reason.contains("404") && reason.contains(".well-known/matrix/client"), "{reason}");
}

#[tokio::test]
async fn a_homeserver_that_has_enough_says_how_long_to_wait_and_takes_all_after_that() {
    let homeserver = Homeserver::start_with(MessageLimit { per_second: 0.5, burst: 2 });
    let (room, channel) = room_and_channel(&homeserver);
    let mut rows = (0..20).map(|number| alert(&format!("number {number}")));
    let (refused, wait) = loop {
        let row = rows.next().expect("no limit in twenty messages");
        match channel.deliver(&row).await {
            Ok(_) => {}
            Err(DeliveryError::Unavailable { reason, after }) => {
                assert!(reason.contains("429 Too Many Requests: M_LIMIT_EXCEEDED"), "{reason}");
                break (row, after.expect("no wait is given"));
            }
            Err(other) => panic!("{other:?}"),
        }
    };
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(10), "{wait:?}");
    let before = homeserver.messages(&room).len();
    // The homeserver's own clock counts.
    tokio::time::sleep(wait).await;
    delivered(&*channel, &refused).await;
    assert_eq!(homeserver.messages(&room).len(), before + 1);
}

#[tokio::test]
async fn a_stopped_homeserver_is_noticed_at_once_and_served_again_on_its_return() {
    let homeserver = Homeserver::start();
    let (room, channel) = room_and_channel(&homeserver);
    let token = homeserver.token(BOT);
    delivered(&*channel, &alert("before")).await;
    homeserver.stop();
    let started = Instant::now();
    let (reason, _) = unavailable(&*channel, &token).await;
    assert!(reason.starts_with("the service cannot be reached: "), "{reason}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    homeserver.start_again();
    delivered(&*channel, &alert("after")).await;
    let [before, after] = &homeserver.messages(&room)[..] else { panic!("not two messages") };
    assert!(before.at_millis < after.at_millis && after.body.contains("after"), "{before:?} {after:?}");
}

/// It was handed over, and taken later: only its transaction id keeps the second attempt from doubling it.
#[tokio::test]
async fn what_a_frozen_homeserver_takes_when_it_wakes_up_shows_once() {
    let homeserver = Homeserver::start();
    let (room, channel) = room_and_channel(&homeserver);
    let token = homeserver.token(BOT);
    delivered(&*channel, &alert("before")).await;
    let row = alert("into the ice");
    homeserver.freeze();
    // The client's patience is over at once.
    tokio::time::pause();
    let outcome = channel.deliver(&row).await;
    tokio::time::resume();
    match outcome {
        Err(DeliveryError::Unavailable { reason, .. }) => {
            assert!(reason.contains("did not answer in time") && !reason.contains(&token), "{reason}");
        }
        other => panic!("expected that nobody answers, found {other:?}"),
    }
    homeserver.thaw();
    delivered(&*channel, &row).await;
    assert_eq!(homeserver.messages(&room).len(), 2);
}

#[tokio::test]
async fn an_answer_that_repeats_the_token_does_not_carry_it_on() {
    let token = "syt_Ym90_repeated_0xYz";
    for status in ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "413 Payload Too Large", "502 Bad Gateway"] {
        let (address, server) = repeating_server(status).await;
        let url = format!("matrix+http://{address}#room=!a:localhost&token=${{pass:t}}");
        let error = opened(&url, &settings(token).0).deliver(&alert("x")).await.unwrap_err();
        let is_final = status.starts_with("400") || status.starts_with("413");
        assert_eq!(matches!(error, DeliveryError::Permanent { .. }), is_final, "{error:?}");
        assert!(error.to_string().contains("authorization: Bearer ***"), "{error}");
        assert!(!format!("{error:?}").contains(token), "{error:?}");
        server.abort();
    }
}

/// Answers each request with its own head as the error.
async fn repeating_server(status: &'static str) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 16 * 1024];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let head = request.split("\r\n").find(|line| line.starts_with("authorization")).unwrap();
            let body = json!({"errcode": "M_UNKNOWN", "error": head}).to_string();
            let answer =
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    (address, tokio::spawn(serve))
}

#[test]
fn all_that_is_wrong_with_a_url_is_said_at_once() {
    let (settings, _) = settings("t");
    let faults = |url: &str| open(url, &settings).map(|_| ()).unwrap_err().to_string();
    let wrong = faults("matrix+ftp://matrix.example.com#room=ops&commands_from=alice");
    for part in [
        "url: holds no address of a homeserver (hint: write it as `matrix+https://matrix.example.com#room=...`)",
        "url#room: is neither the id nor an alias of a room (hint: ",
        "url#token: is required",
        "url#commands_from: `alice` is not a user id (hint: write whole ids, as `@alice:example.com`)",
    ] {
        assert!(wrong.contains(part), "`{part}` is missing in {wrong}");
    }
    assert!(faults("matrix:#token=${pass:t}").contains("url#room: is required"));
}
