//! Telegram against the Bot API's rules.

use std::time::Duration;

use serde_json::{Value, json};

use super::push_server::{
    DOWN_SPAN, Reply, Request, Server, Service, alert, channel, examples_open, faults, late_recovery, permanent,
    saying, unavailable,
};

pub(crate) const TOKEN: &str = "123456:AAH-planted_Secret-9";
pub(crate) const CHAT: i64 = -1_001_234_567_890;

/// A bot in one chat.
#[derive(Default)]
pub(crate) struct BotApi {
    /// What was sent: the text as people read it, and the whole request.
    messages: Vec<(String, Value)>,
    /// Answers this instead, whatever is asked.
    trouble: Option<(u16, Value)>,
}

impl Service for BotApi {
    fn answer(&mut self, request: &Request) -> Reply {
        if let Some((status, body)) = &self.trouble {
            return Reply::json(*status, body);
        }
        match self.call(request) {
            Ok(result) => Reply::json(200, &json!({ "ok": true, "result": result })),
            Err((code, description)) => {
                let body = json!({ "ok": false, "error_code": code, "description": description });
                Reply::json(code, &body)
            }
        }
    }
}

impl BotApi {
    fn call(&mut self, request: &Request) -> Result<Value, (u16, String)> {
        let bad = |why: &str| (400, format!("Bad Request: {why}"));
        let path = request.target.strip_prefix("/bot").ok_or((404, "Not Found".to_owned()))?;
        let (token, method) = path.split_once('/').ok_or((404, "Not Found".to_owned()))?;
        if token != TOKEN {
            return Err((401, "Unauthorized".to_owned()));
        }
        let body = request.json().ok_or_else(|| bad("message text is empty"))?;
        if body["chat_id"] != CHAT {
            return Err(bad("chat not found"));
        }
        if body["parse_mode"] != "HTML" || body["link_preview_options"]["is_disabled"] != true {
            return Err(bad("unsupported parse_mode"));
        }
        let text = parsed(body["text"].as_str().unwrap_or_default()).map_err(|why| bad(&why))?;
        match text.encode_utf16().count() {
            0 => return Err(bad("message text is empty")),
            1..=4096 => {}
            _ => return Err(bad("message is too long")),
        }
        match method {
            "sendMessage" => self.send(body, text),
            "editMessageText" => self.edit(body, text),
            _ => Err((404, "Not Found".to_owned())),
        }
    }

    fn send(&mut self, body: Value, text: String) -> Result<Value, (u16, String)> {
        if let Some(reply) = body.get("reply_parameters") {
            let exists = reply["message_id"].as_u64().is_some_and(|id| id as usize <= self.messages.len());
            if !exists && reply["allow_sending_without_reply"] != true {
                return Err((400, "Bad Request: message to be replied not found".to_owned()));
            }
        }
        self.messages.push((text, body));
        Ok(json!({ "message_id": self.messages.len(), "chat": { "id": CHAT } }))
    }

    fn edit(&mut self, body: Value, text: String) -> Result<Value, (u16, String)> {
        let id = body["message_id"].as_u64().unwrap_or_default();
        let Some(message) = (id as usize).checked_sub(1).and_then(|at| self.messages.get_mut(at)) else {
            return Err((400, "Bad Request: message to edit not found".to_owned()));
        };
        if message.0 == text {
            return Err((
                400,
                "Bad Request: message is not modified: specified new message content is the same".to_owned(),
            ));
        }
        *message = (text, body);
        Ok(json!({ "message_id": id }))
    }
}

/// Reads Telegram's HTML as strictly as Telegram: known tags, closed in order, known entities.
fn parsed(html: &str) -> Result<String, String> {
    let (mut text, mut open, mut rest) = (String::new(), Vec::new(), html);
    while let Some(at) = rest.find(['<', '>', '&', '"']) {
        text.push_str(&rest[..at]);
        let special = &rest[at..];
        let used = if let Some(tag) = special.strip_prefix("</") {
            let (name, _) = tag.split_once('>').ok_or("can't parse entities: unclosed end tag")?;
            if open.pop() != Some(name) {
                return Err(format!("can't parse entities: unmatched end tag \"{name}\""));
            }
            name.len() + 3
        } else if let Some(tag) = special.strip_prefix('<') {
            let (inside, _) = tag.split_once('>').ok_or("can't parse entities: unclosed start tag")?;
            let name = inside.split(' ').next().unwrap_or_default();
            let is_known = match name {
                "b" => inside == "b",
                "a" => inside.starts_with("a href=\"https://") && inside.matches('"').count() == 2,
                _ => false,
            };
            if !is_known {
                return Err(format!("can't parse entities: unsupported start tag \"{inside}\""));
            }
            open.push(name);
            inside.len() + 2
        } else {
            let entities = [("&lt;", '<'), ("&gt;", '>'), ("&amp;", '&'), ("&quot;", '"'), ("&#39;", '\'')];
            let known = entities.iter().find(|(entity, _)| special.starts_with(entity));
            let (entity, character) = known.ok_or("can't parse entities: a bare special character")?;
            text.push(*character);
            entity.len()
        };
        rest = &special[used..];
    }
    text.push_str(rest);
    if open.is_empty() { Ok(text.trim().to_owned()) } else { Err("can't parse entities: unclosed tag".to_owned()) }
}

fn url(server: &Server<BotApi>, more: &str) -> String {
    format!("telegram:#token=${{env:T}}&chat_id={CHAT}&api=http://127.0.0.1:{}{more}", server.port)
}

#[tokio::test]
async fn an_alert_arrives_as_it_was_written_and_its_incident_in_replies() {
    let server = Server::start(BotApi::default()).await;
    let telegram = channel(&url(&server, "&thread_id=42"), TOKEN);
    let first = telegram.deliver(&saying("a < b && \"c\" > <b>d</b>")).await.unwrap();
    assert_eq!(first.external_id.as_deref(), Some("1"));
    let mut reminder = alert();
    reminder.thread_external_id = first.external_id;
    telegram.deliver(&reminder).await.unwrap();
    telegram.deliver(&late_recovery()).await.unwrap();
    server.with(|api| {
        let (text, body) = &api.messages[0];
        assert_eq!(*text, "\u{1F534} Orders: ALERT\n\na < b && \"c\" > <b>d</b>\nincident 3\n\nOpen the monitor");
        assert!(body["text"].as_str().unwrap().contains("https://wb.x.test/monitors/5f0c7a10-"));
        assert_eq!((&body["message_thread_id"], &body["disable_notification"]), (&json!(42), &json!(false)));
        assert_eq!(body.get("reply_parameters"), None);
        assert_eq!(api.messages[1].1["reply_parameters"]["message_id"], 1);
        assert!(api.messages[2].0.contains(DOWN_SPAN), "{}", api.messages[2].0);
        assert_eq!(api.messages[2].1["disable_notification"], true);
        assert_eq!(api.messages.len(), 3);
    });
}

#[tokio::test]
async fn the_longest_texts_are_taken_whatever_they_are_made_of() {
    let server = Server::start(BotApi::default()).await;
    let telegram = channel(&url(&server, ""), TOKEN);
    for character in ["x", "&", "<", "\u{1F534}", "\u{4e16}"] {
        let mut row = saying(&character.repeat(10_000));
        row.facts.monitor_name = character.repeat(1_000);
        telegram.deliver(&row).await.unwrap();
    }
    server.with(|api| {
        for (text, _) in &api.messages {
            let units = text.encode_utf16().count();
            assert!((4090..=4096).contains(&units) && text.contains('\u{2026}'), "{units}");
        }
    });
}

#[tokio::test]
async fn repetition_is_edited_into_the_first_message() {
    let server = Server::start(BotApi::default()).await;
    let telegram = channel(&url(&server, ""), TOKEN);
    assert!(telegram.can_edit());
    telegram.deliver(&alert()).await.unwrap();
    let mut again = saying("ten times the same");
    again.edits_external_id = Some("1".to_owned());
    // The second time nothing is left to be changed, which is no failure.
    for _ in 0..2 {
        assert_eq!(telegram.deliver(&again).await.unwrap().external_id.as_deref(), Some("1"));
    }
    server.with(|api| assert!(api.messages.len() == 1 && api.messages[0].0.contains("ten times the same")));
    again.edits_external_id = Some("99".to_owned());
    let told_anew = telegram.deliver(&again).await.unwrap();
    assert_eq!(told_anew.external_id.as_deref(), Some("2"), "the message was deleted, and what is new must be told");
}

#[tokio::test]
async fn failures_are_told_apart_and_waits_obeyed() {
    let server = Server::start(BotApi::default()).await;
    let telegram = channel(&url(&server, ""), TOKEN);
    let refuse = |code: u16, description: &str, parameters: Value| {
        let body = json!({ "ok": false, "error_code": code, "description": description, "parameters": parameters });
        server.with(|api| api.trouble = Some((code, body)));
    };
    refuse(429, "Too Many Requests: retry after 34", json!({ "retry_after": 34 }));
    assert_eq!(unavailable(telegram.deliver(&alert()).await).1, Some(Duration::from_secs(34)));
    refuse(429, "Too Many Requests: retry after 99999999", json!({ "retry_after": 99_999_999 }));
    assert_eq!(unavailable(telegram.deliver(&alert()).await).1, Some(Duration::from_secs(3_600)));
    refuse(400, "Bad Request: group chat was upgraded to a supergroup chat", json!({ "migrate_to_chat_id": -1009 }));
    let (reason, _) = unavailable(telegram.deliver(&alert()).await);
    assert!(reason.contains("write `chat_id=-1009` into"), "{reason}");
    for (code, description, hint) in [
        (403, "Forbidden: bot was kicked from the supergroup chat", "let it in"),
        (400, "Bad Request: message thread not found", "check `chat_id` and `thread_id`"),
        (400, "Bad Request: not enough rights to send text messages to the chat", "may write there"),
        (502, "Bad Gateway", "502"),
    ] {
        refuse(code, description, Value::Null);
        let (reason, _) = unavailable(telegram.deliver(&alert()).await);
        assert!(reason.contains(description) && reason.contains(hint), "{reason}");
    }
    refuse(400, "Bad Request: message is too long", Value::Null);
    assert!(permanent(telegram.deliver(&alert()).await).contains("too long"));
    server.with(|api| api.trouble = Some((200, json!({ "ok": false, "description": "no" }))));
    assert!(unavailable(telegram.deliver(&alert()).await).0.contains("no answer of the Bot API"));
    assert_eq!(server.with(|api| api.messages.len()), 0);
}

#[tokio::test]
async fn wrong_credentials_and_rooms_wait_for_a_person() {
    let server = Server::start(BotApi::default()).await;
    let (reason, _) = unavailable(channel(&url(&server, ""), "1:other").deliver(&alert()).await);
    assert!(reason.contains("@BotFather"), "{reason}");
    let elsewhere = url(&server, "").replace(&CHAT.to_string(), "-5");
    let (reason, _) = unavailable(channel(&elsewhere, TOKEN).deliver(&alert()).await);
    assert!(reason.contains("chat not found") && reason.contains("check `chat_id`"), "{reason}");
    // Nothing that could lead elsewhere becomes a part of the path.
    for token in ["", "123", "1:a/../b", "1:a?b", "x:abc"] {
        let (reason, _) = unavailable(channel(&url(&server, ""), token).deliver(&alert()).await);
        assert!(reason.contains("is no bot token"), "{reason}");
    }
}

#[tokio::test]
async fn the_token_is_never_shown() {
    let server = Server::start(BotApi::default()).await;
    let telegram = channel(&url(&server, ""), TOKEN);
    let echo = format!("no bot at /bot{TOKEN}/ nor %3A{}", &TOKEN[7..]);
    for status in [400, 401, 403, 404, 418, 429, 500] {
        let body = json!({ "ok": false, "error_code": status, "description": echo });
        server.with(|api| api.trouble = Some((status, body)));
        let error = telegram.deliver(&alert()).await.unwrap_err();
        assert!(!format!("{error:?}").contains("planted"), "{error:?}");
    }
    drop(server);
    let (reason, _) = unavailable(telegram.deliver(&alert()).await);
    assert!(reason.contains("cannot be reached") && !reason.contains("planted"), "{reason}");
    assert_eq!(telegram.describe(), format!("Telegram chat {CHAT}"));
}

#[test]
fn faults_of_the_url_come_together() {
    let faults = faults("telegram:#chat_id=ops&thread_id=-1&api=ftp://x");
    for fault in ["url#token: is required", "url#chat_id: is neither", "url#thread_id: expected", "url#api: is no web"]
    {
        assert!(faults.contains(fault), "{faults}");
    }
}

#[test]
fn its_examples_open() {
    examples_open("telegram");
}
