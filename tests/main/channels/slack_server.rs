//! Slack as it is published: an incoming webhook, `chat.postMessage` and `chat.update`. It refuses what Slack refuses,
//! keeps the messages of one channel, and shows what was posted twice.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::json_server::{JsonServer, Reply, Request};

pub(crate) const TOKEN: &str = "xoxb-0123456789-planted-token";
pub(crate) const HOOK_PATH: &str = "/services/T0PLANTED/B0PLANTED/XplantedWebhookSecret";
/// The channel that the bot is in, by id and by name.
pub(crate) const CHANNEL: &str = "C0123456789";
const CHANNEL_NAME: &str = "#night-shift";
/// One that it is not in.
pub(crate) const FOREIGN_CHANNEL: &str = "C0FOREIGN00";
/// What is known to be refused above about 13,200; see slackapi/bolt-js#2509.
const MAX_PAYLOAD_CHARS: usize = 12_000;

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) ts: String,
    pub(crate) thread_ts: Option<String>,
    pub(crate) text: String,
    pub(crate) blocks: Value,
    pub(crate) metadata: Value,
    pub(crate) edits: usize,
}

impl Message {
    pub(crate) fn header(&self) -> &str {
        self.blocks[0]["text"]["text"].as_str().unwrap()
    }

    pub(crate) fn said(&self) -> &str {
        self.blocks[1]["text"]["text"].as_str().unwrap()
    }

    /// The notification that it is of.
    pub(crate) fn id(&self) -> &str {
        self.metadata["event_payload"]["id"].as_str().unwrap()
    }
}

#[derive(Default)]
pub(crate) struct Slack {
    pub(crate) messages: Vec<Message>,
    /// The methods that were called, in order.
    pub(crate) calls: Vec<String>,
    /// What to do with the next requests instead.
    pub(crate) faults: VecDeque<Fault>,
}

pub(crate) enum Fault {
    /// `200` with this word as its error.
    Error(&'static str),
    Answer {
        status: u16,
        retry_after: Option<u64>,
        body: String,
    },
    /// Taken, and the answer is lost.
    LostAnswer,
    /// Refused, and all that was sent repeated in the error.
    Echo(u16),
    /// This one goes well.
    None,
}

pub(crate) async fn start() -> (JsonServer, Arc<Mutex<Slack>>) {
    let service = Arc::new(Mutex::new(Slack::default()));
    let own = service.clone();
    let server = JsonServer::start(move |request| own.lock().unwrap().serve(request)).await;
    (server, service)
}

impl Slack {
    fn serve(&mut self, request: &Request) -> Reply {
        self.calls.push(request.path.trim_start_matches("/api/").to_owned());
        match self.faults.pop_front() {
            Some(Fault::Error(word)) => error(word),
            Some(Fault::Answer { status, retry_after, body }) => Reply::Answer { status, retry_after, body },
            Some(Fault::Echo(status)) => echo(status, request),
            Some(Fault::LostAnswer) => {
                self.take(request);
                Reply::Lost
            }
            Some(Fault::None) | None => self.take(request),
        }
    }

    fn take(&mut self, request: &Request) -> Reply {
        if request.method != "POST" {
            return Reply::text(405, "");
        }
        match request.path.as_str() {
            "/api/chat.postMessage" => self.api(request, Self::post),
            "/api/chat.update" => self.api(request, Self::update),
            HOOK_PATH => self.hook(request),
            path if path.starts_with("/services/") => Reply::text(404, "no_service"),
            _ => Reply::json(200, &json!({ "ok": false, "error": "unknown_method" })),
        }
    }

    fn api(&mut self, request: &Request, method: fn(&mut Self, &Value) -> Result<String, &'static str>) -> Reply {
        match request.headers.get("authorization").map(String::as_str) {
            None => return error("not_authed"),
            Some(token) if token != format!("Bearer {TOKEN}") => return error("invalid_auth"),
            Some(_) => {}
        }
        let Some(body) = request.json() else { return error("invalid_form_data") };
        match method(self, &body) {
            Ok(ts) => Reply::json(200, &json!({ "ok": true, "channel": CHANNEL, "ts": ts })),
            Err(word) => error(word),
        }
    }

    fn post(&mut self, body: &Value) -> Result<String, &'static str> {
        only(body, &["channel", "text", "blocks", "metadata", "thread_ts", "unfurl_links", "unfurl_media"])?;
        match body["channel"].as_str() {
            Some(CHANNEL | CHANNEL_NAME) => {}
            Some(FOREIGN_CHANNEL) => return Err("not_in_channel"),
            _ => return Err("channel_not_found"),
        }
        check_content(body)?;
        check_metadata(&body["metadata"])?;
        let thread_ts = body["thread_ts"].as_str().map(ToOwned::to_owned);
        let is_thread = |ts: &str| self.messages.iter().any(|message| message.ts == ts && message.thread_ts.is_none());
        if thread_ts.as_deref().is_some_and(|ts| !is_thread(ts)) {
            return Err("thread_not_found");
        }
        Ok(self.keep(body, thread_ts))
    }

    fn update(&mut self, body: &Value) -> Result<String, &'static str> {
        only(body, &["channel", "ts", "text", "blocks", "metadata"])?;
        match body["channel"].as_str() {
            Some(CHANNEL) => {}
            // A name is not enough here.
            _ => return Err("channel_not_found"),
        }
        check_content(body)?;
        check_metadata(&body["metadata"])?;
        let ts = body["ts"].as_str().unwrap_or_default();
        let message = self.messages.iter_mut().find(|message| message.ts == ts).ok_or("message_not_found")?;
        message.text = body["text"].as_str().unwrap_or_default().to_owned();
        message.blocks = body["blocks"].clone();
        message.metadata = body["metadata"].clone();
        message.edits += 1;
        Ok(ts.to_owned())
    }

    fn hook(&mut self, request: &Request) -> Reply {
        let Some(body) = request.json() else { return Reply::text(400, "invalid_payload") };
        let checked = only(&body, &["text", "blocks"]).and_then(|()| check_content(&body));
        match checked {
            Ok(()) => {
                self.keep(&body, None);
                Reply::text(200, "ok")
            }
            Err("invalid_arguments") => Reply::text(400, "invalid_payload"),
            Err(word) => Reply::text(400, word),
        }
    }

    fn keep(&mut self, body: &Value, thread_ts: Option<String>) -> String {
        let ts = format!("1795294800.{:06}", self.messages.len() + 1);
        self.messages.push(Message {
            ts: ts.clone(),
            thread_ts,
            text: body["text"].as_str().unwrap_or_default().to_owned(),
            blocks: body["blocks"].clone(),
            metadata: body["metadata"].clone(),
            edits: 0,
        });
        ts
    }
}

fn error(word: &str) -> Reply {
    let mut body = json!({ "ok": false, "error": word });
    if word == "missing_scope" {
        body["needed"] = json!("chat:write");
    }
    Reply::json(200, &body)
}

fn echo(status: u16, request: &Request) -> Reply {
    let token = request.headers.get("authorization").cloned().unwrap_or_default();
    let (host, path, body) = (&request.headers["host"], &request.path, &request.body);
    let last = path.rsplit('/').next().unwrap_or_default();
    let sent = format!("{token} http://{host}{path} {} {last} {body}", path.replace('/', "\\/"));
    if path.starts_with("/services/") {
        return Reply::text(status, sent);
    }
    let explained = json!({ "messages": [sent] });
    Reply::json(status, &json!({ "ok": false, "error": format!("bad {token}"), "response_metadata": explained }))
}

/// Text and blocks, as Block Kit describes them.
fn check_content(body: &Value) -> Result<(), &'static str> {
    let text = body["text"].as_str().filter(|text| !text.is_empty()).ok_or("no_text")?;
    if !is_escaped(text) {
        return Err("invalid_arguments");
    }
    if body.to_string().chars().count() > MAX_PAYLOAD_CHARS {
        return Err("msg_blocks_too_long");
    }
    let blocks = body["blocks"].as_array().filter(|blocks| (1..=50).contains(&blocks.len())).ok_or("invalid_blocks")?;
    let is_good = |block: &Value| match block["type"].as_str() {
        Some("header") => only(block, &["type", "text"]).is_ok() && is_text(&block["text"], "plain_text", 150),
        Some("section") => only(block, &["type", "text"]).is_ok() && is_text(&block["text"], "mrkdwn", 3_000),
        Some("context") => {
            let elements = block["elements"].as_array().filter(|elements| (1..=10).contains(&elements.len()));
            only(block, &["type", "elements"]).is_ok()
                && elements.is_some_and(|elements| elements.iter().all(|text| is_text(text, "mrkdwn", 2_000)))
        }
        _ => false,
    };
    if blocks.iter().all(is_good) { Ok(()) } else { Err("invalid_blocks") }
}

fn is_text(object: &Value, kind: &str, max_units: usize) -> bool {
    let known = if kind == "mrkdwn" { ["type", "text", "verbatim"] } else { ["type", "text", "emoji"] };
    let text = object["text"].as_str().unwrap_or_default();
    only(object, &known).is_ok()
        && object["type"] == kind
        && (1..=max_units).contains(&text.encode_utf16().count())
        && (kind == "plain_text" || is_escaped(text))
}

/// Whether `&`, `<` and `>` stand only where they mean something to Slack: entities, and links to our pages.
fn is_escaped(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>']) {
        rest = &rest[at..];
        let known = ["&amp;", "&lt;", "&gt;"].into_iter().find(|entity| rest.starts_with(entity));
        let link = rest.starts_with("<https://watchbell.example.com/").then(|| rest.find('>')).flatten();
        match (known, link) {
            (Some(entity), _) => rest = &rest[entity.len()..],
            (None, Some(end)) => rest = &rest[end + 1..],
            (None, None) => return false,
        }
    }
    true
}

fn check_metadata(metadata: &Value) -> Result<(), &'static str> {
    if metadata.is_null() {
        return Ok(());
    }
    only(metadata, &["event_type", "event_payload"]).map_err(|_| "invalid_metadata_format")?;
    let event_type = metadata["event_type"].as_str().unwrap_or_default();
    let is_name = !event_type.is_empty() && event_type.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_name && metadata["event_payload"].is_object() { Ok(()) } else { Err("invalid_metadata_schema") }
}

fn only(object: &Value, known: &[&str]) -> Result<(), &'static str> {
    let fields = object.as_object().ok_or("invalid_arguments")?;
    if fields.keys().all(|key| known.contains(&key.as_str())) { Ok(()) } else { Err("invalid_arguments") }
}
