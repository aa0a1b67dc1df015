//! ntfy against the rules of its server.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use watchbell::domain::NotificationType;
use watchbell_contract::Severity;

use super::push_server::{
    DOWN_SPAN, Reply, Request, Server, Service, alert, channel, examples_open, late_recovery, permanent, saying,
    unavailable,
};

pub(crate) const TOKEN: &str = "tk_planted7eevizlsiwf9yi4uxsrs83r";
pub(crate) const TOPIC: &str = "ops-secret-topic";
/// `user:planted password`, as a browser would send it.
const BASIC: &str = "Basic dXNlcjpwbGFudGVkIHBhc3N3b3Jk";

/// A server from 2.28 on, without attachments, whose one topic takes one token.
#[derive(Default)]
pub(crate) struct Ntfy {
    /// By sequence: what comes again under the same one is shown in its place.
    shown: BTreeMap<String, Value>,
    posts: usize,
    trouble: Option<Reply>,
}

impl Service for Ntfy {
    fn answer(&mut self, request: &Request) -> Reply {
        if let Some(reply) = self.trouble.clone() {
            return reply;
        }
        match self.publish(request) {
            Ok(id) => Reply::json(200, &json!({ "id": id, "event": "message", "topic": TOPIC })),
            Err((code, error)) => {
                let http = code / 100;
                Reply::json(http, &json!({ "code": code, "http": http, "error": error }))
            }
        }
    }
}

impl Ntfy {
    fn publish(&mut self, request: &Request) -> Result<String, (u16, &'static str)> {
        if (request.method.as_str(), request.target.as_str()) != ("POST", "/") {
            return Err((40_401, "page not found"));
        }
        if ![format!("Bearer {TOKEN}").as_str(), BASIC].contains(&request.header("authorization")) {
            return Err((40_301, "forbidden"));
        }
        if request.body.len() > 8_192 {
            return Err((41_303, "JSON body too large"));
        }
        let message = request.json().ok_or((40_017, "request body must be message JSON"))?;
        let is_token = |text: &Value| {
            text.as_str().is_some_and(|text| {
                (1..=64).contains(&text.len())
                    && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
            })
        };
        if !is_token(&message["topic"]) {
            return Err((40_009, "topic invalid"));
        }
        if !is_token(&message["sequence_id"]) {
            return Err((40_049, "sequence ID invalid"));
        }
        if !message["priority"].as_u64().is_some_and(|priority| (1..=5).contains(&priority)) {
            return Err((40_007, "invalid priority parameter"));
        }
        let is_text = |value: &Value| value.is_string();
        let has_types = message["tags"].as_array().is_some_and(|tags| tags.iter().all(is_text))
            && is_text(&message["title"])
            && (is_text(&message["click"]) || message["click"].is_null());
        if !has_types {
            return Err((40_017, "request body must be message JSON"));
        }
        let bytes = |value: &Value| value.as_str().map_or(0, str::len);
        if bytes(&message["title"]) > 1_024 {
            return Err((40_057, "title too long"));
        }
        if message["tags"].as_array().unwrap().iter().map(bytes).sum::<usize>() > 512 {
            return Err((40_058, "tags too long"));
        }
        // With exactly as many bytes as the limit it is an attachment already.
        if message["message"].as_str().is_none_or(|text| text.len() >= 4_096) {
            return Err((40_014, "attachments not allowed"));
        }
        self.posts += 1;
        self.shown.insert(message["sequence_id"].to_string(), message);
        Ok(format!("id{}", self.posts))
    }
}

fn url(server: &Server<Ntfy>) -> String {
    format!("ntfy+http://127.0.0.1:{}/{TOPIC}#token=${{env:T}}", server.port)
}

#[tokio::test]
async fn an_alert_wakes_and_good_news_does_not() {
    let server = Server::start(Ntfy::default()).await;
    let ntfy = channel(&url(&server), TOKEN);
    let delivered = ntfy.deliver(&alert()).await.unwrap();
    assert_eq!((delivered.answer.as_str(), delivered.external_id.as_deref()), ("200 OK", Some("id1")));
    let shown = || server.with(|server| server.shown.values().next().unwrap().clone());
    let first = shown();
    assert_eq!(first["title"], "\u{1F534} Orders: ALERT");
    assert_eq!(first["message"], "nothing came since noon\nincident 3");
    assert_eq!((&first["priority"], &first["tags"]), (&json!(5), &json!(["critical", "alert"])));
    assert_eq!(first["click"], "https://wb.x.test/monitors/5f0c7a10-1111-4222-8333-444455556666");
    ntfy.deliver(&late_recovery()).await.unwrap();
    assert_eq!(shown()["priority"], 2);
    assert!(shown()["message"].as_str().unwrap().starts_with(DOWN_SPAN), "{}", shown());
    let mut warning = alert();
    (warning.severity, warning.notification_type) = (Severity::Warning, NotificationType::Reminder);
    ntfy.deliver(&warning).await.unwrap();
    assert_eq!((&shown()["priority"], &shown()["title"]), (&json!(3), &json!("\u{1F7E1} Orders: still failing")));
}

#[tokio::test]
async fn what_is_sent_again_is_shown_once() {
    let server = Server::start(Ntfy::default()).await;
    let ntfy = channel(&url(&server), TOKEN);
    for _ in 0..3 {
        ntfy.deliver(&alert()).await.unwrap();
    }
    server.with(|server| assert_eq!((server.posts, server.shown.len()), (3, 1)));
}

#[tokio::test]
async fn the_longest_texts_are_messages_and_no_attachments() {
    let server = Server::start(Ntfy::default()).await;
    let ntfy = channel(&url(&server), TOKEN);
    for character in ["x", "\"", "\n-", "\u{e4}", "\u{1F534}"] {
        let mut row = saying(&character.repeat(10_000));
        row.facts.monitor_name = character.repeat(1_000);
        ntfy.deliver(&row).await.unwrap();
    }
    let mut empty = saying("");
    (empty.body, empty.incident_id) = (String::new(), None);
    ntfy.deliver(&empty).await.unwrap();
    server.with(|server| assert!(server.shown.values().all(|message| message["message"] == "Orders: ALERT")));
}

#[tokio::test]
async fn failures_are_told_apart_and_waits_obeyed() {
    let server = Server::start(Ntfy::default()).await;
    let ntfy = channel(&url(&server), TOKEN);
    let refuse = |status: u16, code: u32, headers: Vec<(&'static str, String)>| {
        let body = json!({ "code": code, "http": status, "error": "limit reached" }).to_string();
        server.with(|server| server.trouble = Some(Reply(status, headers, body)));
    };
    refuse(429, 42_901, vec![("retry-after", "9".to_owned())]);
    assert_eq!(unavailable(ntfy.deliver(&alert()).await).1, Some(Duration::from_secs(9)));
    for (status, code, hint) in [
        (429, 42_908, "42908"),
        (500, 50_001, "500"),
        (507, 50_701, "507"),
        (401, 40_101, "closed to this user"),
        (404, 40_401, "check the address"),
        (405, 0, "check the address"),
        (400, 40_010, "no such topic"),
        (302, 0, "redirect"),
    ] {
        refuse(status, code, Vec::new());
        let (reason, after) = unavailable(ntfy.deliver(&alert()).await);
        assert!(reason.contains(hint) && after.is_none(), "{reason}");
    }
    for (status, code) in [(400, 40_017), (413, 41_303)] {
        refuse(status, code, Vec::new());
        assert!(permanent(ntfy.deliver(&alert()).await).contains(&code.to_string()));
    }
    server.with(|server| server.trouble = Some(Reply(200, Vec::new(), "<html>Welcome</html>".to_owned())));
    assert!(unavailable(ntfy.deliver(&alert()).await).0.contains("no answer of an ntfy server"));
}

#[tokio::test]
async fn tokens_and_passwords_open_the_topic_and_are_never_shown() {
    let server = Server::start(Ntfy::default()).await;
    let (reason, _) = unavailable(channel(&url(&server), "tk_wrong").deliver(&alert()).await);
    assert!(reason.contains("403") && reason.contains("token"), "{reason}");
    let with_user = format!("ntfy+http://user:${{env:P}}@127.0.0.1:{}/{TOPIC}", server.port);
    let by_password = channel(&with_user, "planted password");
    by_password.deliver(&alert()).await.unwrap();
    let both = channel(&format!("{with_user}#token=${{env:T}}"), "planted password");
    assert!(unavailable(both.deliver(&alert()).await).0.contains("keep one of them"));

    let by_token = channel(&url(&server), TOKEN);
    for status in [400, 403, 404, 418, 429, 500] {
        let echo = format!("{TOKEN} planted password planted%20password {BASIC} {TOPIC}");
        server.with(|server| server.trouble = Some(Reply(status, Vec::new(), echo)));
        for (channel, secrets) in
            [(&by_token, vec![TOKEN]), (&by_password, vec!["planted password", "planted%20", &BASIC[6..]])]
        {
            let error = format!("{:?}", channel.deliver(&alert()).await.unwrap_err());
            assert!(!error.contains(TOPIC) && !secrets.iter().any(|secret| error.contains(secret)), "{error}");
        }
    }
    assert_eq!(by_password.describe(), format!("ntfy at http://127.0.0.1:{}", server.port));
}

#[test]
fn its_examples_open() {
    examples_open("ntfy");
}
