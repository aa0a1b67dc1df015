//! Discord against the rules of its webhooks.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::DateTime;
use serde_json::{Value, json};

use super::push_server::{
    DOWN_SPAN, Reply, Request, Server, Service, alert, channel, examples_open, faults, late_recovery, permanent,
    saying, unavailable,
};

pub(crate) const PATH: &str = "/api/webhooks/1122334455667788/planted-token_ig5AO-wdVWpCBtUUMxmgsWryqgsW3DChbKYO";

/// One webhook.
#[derive(Default)]
pub(crate) struct Webhooks {
    messages: BTreeMap<u64, Value>,
    /// Only requests with this `thread_id` find their messages.
    thread: Option<&'static str>,
    trouble: Option<Reply>,
}

impl Service for Webhooks {
    fn answer(&mut self, request: &Request) -> Reply {
        if let Some(reply) = self.trouble.clone() {
            return reply;
        }
        match self.execute(request) {
            Ok(reply) => reply,
            Err((status, code, message)) => Reply::json(status, &json!({ "code": code, "message": message })),
        }
    }
}

impl Webhooks {
    fn execute(&mut self, request: &Request) -> Result<Reply, (u16, u32, String)> {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let rest = path.strip_prefix(PATH).ok_or((404, 10_015, "Unknown Webhook".to_owned()))?;
        let query: BTreeMap<_, _> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        if query.get("thread_id").copied() != self.thread {
            return Err((400, 10_003, "Unknown Channel".to_owned()));
        }
        let body = request.json().ok_or((400, 50_109, "The request body contains invalid JSON.".to_owned()))?;
        check(&body).map_err(|why| (400, 50_035, format!("Invalid Form Body: {why}")))?;
        match (request.method.as_str(), rest.strip_prefix("/messages/")) {
            ("POST", None) => {
                let id = 900_000 + self.messages.len() as u64;
                self.messages.insert(id, body);
                // Without `wait` nobody learns what the message is called.
                if query.get("wait") != Some(&"true") {
                    return Ok(Reply::text(204, ""));
                }
                Ok(Reply::json(200, &json!({ "id": id.to_string() })))
            }
            ("PATCH", Some(id)) => {
                let id = id.parse().unwrap_or_default();
                let message = self.messages.get_mut(&id).ok_or((404, 10_008, "Unknown Message".to_owned()))?;
                *message = body;
                Ok(Reply::json(200, &json!({ "id": id.to_string() })))
            }
            _ => Err((405, 0, "405: Method Not Allowed".to_owned())),
        }
    }

    fn last(&self) -> &Value {
        self.messages.values().last().unwrap()
    }
}

/// The limits of a message, each refused by its name.
fn check(body: &Value) -> Result<(), &'static str> {
    let length = |value: &Value| value.as_str().map_or(0, |text| text.chars().count());
    let embeds = body["embeds"].as_array().ok_or("embeds")?;
    let is_long = length(&body["content"]) > 2_000 || embeds.len() > 10;
    if is_long || (length(&body["content"]) == 0 && embeds.is_empty()) {
        return Err("content");
    }
    // What is not forbidden here would call everybody in the channel.
    if body["allowed_mentions"] != json!({ "parse": [] }) {
        return Err("allowed_mentions");
    }
    if body.get("nonce").is_some() || body.get("message_reference").is_some() {
        return Err("a webhook has no such field");
    }
    let mut total = 0;
    for embed in embeds {
        let (title, description) = (length(&embed["title"]), length(&embed["description"]));
        total += title + description;
        let has_limits = title <= 256 && (1..=4_096).contains(&description) && total <= 6_000;
        let has_link = embed.get("url").is_none_or(|url| url.as_str().is_some_and(|url| url.starts_with("https://")));
        let has_color = embed["color"].as_u64().is_some_and(|color| color <= 0x00ff_ffff);
        let has_time = embed["timestamp"].as_str().is_some_and(|at| DateTime::parse_from_rfc3339(at).is_ok());
        if !(has_limits && has_link && has_color && has_time) {
            return Err("embeds");
        }
    }
    Ok(())
}

const URL: &str = "discord:#webhook=${env:W}";

fn hook(server: &Server<Webhooks>) -> String {
    format!("http://127.0.0.1:{}{PATH}", server.port)
}

#[tokio::test]
async fn an_alert_arrives_as_it_was_written_and_calls_nobody() {
    let server = Server::start(Webhooks::default()).await;
    let discord = channel(URL, &format!("{}\n", hook(&server)));
    let mut row = saying("@everyone **look** ```rm -rf``` <@123>");
    row.facts.monitor_name = "my_shop *x* @here".to_owned();
    let delivered = discord.deliver(&row).await.unwrap();
    assert_eq!(delivered.external_id.as_deref(), Some("900000"));
    server.with(|hooks| {
        let message = hooks.last();
        assert_eq!(message["content"], "\u{1F534} my\\_shop \\*x\\* \\@here: ALERT");
        let embed = &message["embeds"][0];
        let text = "@everyone **look** `\u{200b}``rm -rf`\u{200b}`` <@123>";
        assert_eq!(embed["description"], format!("```\n{text}\nincident 3\n```"));
        assert_eq!((&embed["color"], &embed["timestamp"]), (&json!(0xe7_4c_3c), &json!("2026-11-21T21:00:00.000Z")));
        assert_eq!(embed["url"], "https://wb.x.test/monitors/5f0c7a10-1111-4222-8333-444455556666");
    });
    discord.deliver(&late_recovery()).await.unwrap();
    server.with(|hooks| {
        assert_eq!(hooks.last()["content"], "\u{2705} Orders: was down, RECOVERED");
        assert!(hooks.last()["embeds"][0]["description"].as_str().unwrap().contains(DOWN_SPAN));
        assert_eq!(hooks.last()["embeds"][0]["color"], 0x2e_cc_71);
    });
}

#[tokio::test]
async fn the_longest_texts_are_taken_and_close_their_block() {
    let server = Server::start(Webhooks::default()).await;
    let discord = channel(URL, &hook(&server));
    for character in ["x", "`", "_", "\u{1F534}", "\n"] {
        let mut row = saying(&format!("a{}b", character.repeat(10_000)));
        row.facts.monitor_name = character.repeat(1_000);
        discord.deliver(&row).await.unwrap();
        let text = server.with(|hooks| hooks.last()["embeds"][0]["description"].as_str().unwrap().to_owned());
        let inner = text.strip_prefix("```\n").and_then(|text| text.strip_suffix("\n```")).unwrap();
        assert!(!inner.contains("```"), "the text closes its own block");
    }
}

#[tokio::test]
async fn repetition_is_edited_into_the_first_message_also_in_a_thread() {
    let server = Server::start(Webhooks { thread: Some("42"), ..Webhooks::default() }).await;
    let discord = channel(URL, &format!("{}?thread_id=42", hook(&server)));
    assert!(discord.can_edit());
    let first = discord.deliver(&alert()).await.unwrap();
    let mut again = saying("ten times the same");
    again.edits_external_id = first.external_id.clone();
    assert_eq!(discord.deliver(&again).await.unwrap().external_id, first.external_id);
    server.with(|hooks| {
        assert_eq!(hooks.messages.len(), 1);
        assert!(hooks.last().to_string().contains("ten times the same"));
        hooks.messages.clear();
        hooks.messages.insert(7, json!({}));
    });
    let told_anew = discord.deliver(&again).await.unwrap();
    assert_eq!(
        told_anew.external_id.as_deref(),
        Some("900001"),
        "the message was deleted, and what is new must be told"
    );
    let (reason, _) = unavailable(channel(URL, &hook(&server)).deliver(&alert()).await);
    assert!(reason.contains("check `thread_id`"), "{reason}");
}

#[tokio::test]
async fn failures_are_told_apart_and_waits_obeyed() {
    let server = Server::start(Webhooks::default()).await;
    let discord = channel(URL, &hook(&server));
    let refuse = |status: u16, body: Value, headers: Vec<(&'static str, String)>| {
        server.with(|hooks| hooks.trouble = Some(Reply(status, headers, body.to_string())));
    };
    let seconds = |text: &str| vec![("retry-after", text.to_owned())];
    refuse(
        429,
        json!({ "message": "You are being rate limited.", "retry_after": 0.65, "global": false }),
        seconds("1"),
    );
    assert_eq!(unavailable(discord.deliver(&alert()).await).1, Some(Duration::from_millis(650)));
    refuse(429, Value::Null, seconds("65"));
    assert_eq!(unavailable(discord.deliver(&alert()).await).1, Some(Duration::from_secs(65)));
    refuse(429, json!({ "retry_after": 1e300 }), Vec::new());
    assert_eq!(unavailable(discord.deliver(&alert()).await).1, None);
    for (status, code, hint) in [
        (404, 10_015, "the webhook was deleted"),
        (401, 50_027, "the webhook was deleted"),
        (405, 0, "its URL is wrong"),
        (400, 220_001, "?thread_id="),
        (400, 50_083, "archived"),
        (503, 0, "503"),
        (204, 0, "no answer of a Discord webhook"),
    ] {
        refuse(status, json!({ "code": code, "message": "no" }), Vec::new());
        let (reason, _) = unavailable(discord.deliver(&alert()).await);
        assert!(reason.contains(hint), "{reason}");
    }
    refuse(400, json!({ "code": 50_035, "message": "Invalid Form Body" }), Vec::new());
    assert!(permanent(discord.deliver(&alert()).await).contains("Invalid Form Body"));
    assert_eq!(server.with(|hooks| hooks.messages.len()), 0);
}

#[tokio::test]
async fn the_webhook_is_never_shown() {
    let server = Server::start(Webhooks::default()).await;
    let discord = channel(URL, &hook(&server));
    for status in [200, 302, 400, 401, 404, 418, 429, 500] {
        let echo = format!("{{\"message\": \"no {} at {PATH}?wait=true\"}}", hook(&server));
        server.with(|hooks| hooks.trouble = Some(Reply(status, Vec::new(), echo)));
        let error = format!("{:?}", discord.deliver(&alert()).await.unwrap_err());
        assert!(!error.contains("planted") && !error.contains("1122334455"), "{error}");
    }
    drop(server);
    let (reason, _) = unavailable(discord.deliver(&alert()).await);
    assert!(reason.contains("cannot be reached") && !reason.contains("planted"), "{reason}");
    let (reason, _) = unavailable(channel(URL, "planted, but no address").deliver(&alert()).await);
    assert!(reason.contains("copy the webhook's URL") && !reason.contains("planted"), "{reason}");
    assert_eq!(discord.describe(), "a Discord webhook");
    assert!(faults("discord:#").contains("url#webhook: is required"));
}

#[test]
fn its_examples_open() {
    examples_open("discord");
}
