//! Microsoft Teams against the rules of workflows and of the older connectors.

use std::time::Duration;

use serde_json::{Value, json};

use super::push_server::{
    DOWN_SPAN, Reply, Request, Server, Service, alert, channel, examples_open, late_recovery, permanent, saying,
    unavailable,
};

const WORKFLOW: &str = "/workflows/planted0a1b2c3d4e5f/triggers/manual/paths/invoke?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=planted-5ig_na%2Bture";
pub(crate) const CONNECTOR: &str =
    "/webhookb2/planted-1111-2222@planted-tenant-3333/IncomingWebhook/planted4444aaaa/planted-5555";
/// About 28 KB.
const MAX_BYTES: usize = 28 * 1024;

/// A workflow and a connector of one channel.
#[derive(Default)]
pub(crate) struct Hooks {
    cards: Vec<Value>,
    trouble: Option<Reply>,
}

impl Service for Hooks {
    fn answer(&mut self, request: &Request) -> Reply {
        if let Some(reply) = self.trouble.clone() {
            return reply;
        }
        match request.target.as_str() {
            WORKFLOW => match self.post(request, request.body.len()) {
                Ok(()) => Reply::text(202, ""),
                Err((status, why)) => Reply::json(status, &json!({ "error": { "code": why, "message": why } })),
            },
            CONNECTOR => {
                // A connector counts two bytes a character, and says within a success what failed.
                match self.post(request, request.body.encode_utf16().count() * 2) {
                    Ok(()) => Reply::text(200, "1"),
                    Err((status, _)) => Reply::text(200, &failed(status)),
                }
            }
            _ => Reply::json(404, &json!({ "error": { "code": "WorkflowNotFound", "message": "gone" } })),
        }
    }
}

fn failed(status: u16) -> String {
    format!(
        "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error {status} with \
         ContextId tcid=3626521845697697778,server=DB3PEPF0000009A,cv=BmkbJ1NdTkv1EDoqr7n/rg.0.."
    )
}

impl Hooks {
    fn post(&mut self, request: &Request, counted_bytes: usize) -> Result<(), (u16, &'static str)> {
        if request.method != "POST" || request.header("content-type") != "application/json; charset=utf-8" {
            return Err((415, "UnsupportedMediaType"));
        }
        if counted_bytes > MAX_BYTES {
            return Err((413, "RequestEntityTooLarge"));
        }
        let body = request.json().ok_or((400, "InvalidRequestContent"))?;
        let attachment = &body["attachments"][0];
        let is_message = body["type"] == "message"
            && body["attachments"].as_array().is_some_and(|all| all.len() == 1)
            && attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
            && attachment.get("contentUrl") == Some(&Value::Null);
        if !is_message || !is_card(&attachment["content"]) {
            return Err((400, "TriggerInputSchemaMismatch"));
        }
        self.cards.push(attachment["content"].clone());
        Ok(())
    }
}

fn is_card(card: &Value) -> bool {
    let actions = card["actions"].as_array().map_or(&[][..], Vec::as_slice);
    card["type"] == "AdaptiveCard"
        && card["version"] == "1.4"
        && card["body"].as_array().is_some_and(|body| !body.is_empty() && body.iter().all(is_element))
        && actions.iter().all(|action| {
            action["type"] == "Action.OpenUrl" && action["url"].as_str().is_some_and(|url| url.starts_with("https://"))
        })
}

fn is_element(element: &Value) -> bool {
    let all = |list: &Value, is: fn(&Value) -> bool| {
        list.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(is))
    };
    match element["type"].as_str() {
        Some("Container") => {
            let styles = ["default", "emphasis", "good", "attention", "warning", "accent"];
            element["style"].as_str().is_some_and(|style| styles.contains(&style)) && all(&element["items"], is_element)
        }
        Some("RichTextBlock") => all(&element["inlines"], |run| {
            run["type"] == "TextRun" && run["text"].as_str().is_some_and(|text| !text.is_empty())
        }),
        _ => false,
    }
}

/// What people read, one line a block.
fn read(card: &Value) -> String {
    fn lines(element: &Value, read: &mut Vec<String>) {
        for inner in element["items"].as_array().into_iter().flatten() {
            lines(inner, read);
        }
        for run in element["inlines"].as_array().into_iter().flatten() {
            read.push(run["text"].as_str().unwrap().to_owned());
        }
    }
    let mut read = Vec::new();
    for element in card["body"].as_array().unwrap() {
        lines(element, &mut read);
    }
    read.join("\n")
}

const URL: &str = "teams:#webhook=${env:W}";

fn hook(server: &Server<Hooks>, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", server.port)
}

#[tokio::test]
async fn an_alert_arrives_as_it_was_written_over_both_kinds_of_webhooks() {
    let server = Server::start(Hooks::default()).await;
    for (path, answer) in [(WORKFLOW, "202 Accepted"), (CONNECTOR, "200 OK")] {
        let teams = channel(URL, &hook(&server, path));
        let delivered = teams.deliver(&saying("a *b* _c_ [d](https://e)\n\n<f> \"g\"")).await.unwrap();
        assert_eq!((delivered.answer.as_str(), delivered.external_id), (answer, None));
        server.with(|hooks| {
            let card = hooks.cards.last().unwrap();
            assert_eq!(read(card), "\u{1F534} Orders: ALERT\na *b* _c_ [d](https://e)\n \n<f> \"g\"\nincident 3");
            assert_eq!(card["body"][0]["style"], "attention");
            let link = "https://wb.x.test/monitors/5f0c7a10-1111-4222-8333-444455556666";
            assert_eq!(card["actions"][0]["url"], link);
        });
    }
    let teams = channel(URL, &hook(&server, WORKFLOW));
    teams.deliver(&late_recovery()).await.unwrap();
    server.with(|hooks| {
        assert_eq!(hooks.cards.len(), 3);
        assert!(read(&hooks.cards[2]).contains(DOWN_SPAN));
        assert_eq!(hooks.cards[2]["body"][0]["style"], "good");
    });
    assert!(!teams.can_edit());
}

#[tokio::test]
async fn the_longest_texts_are_taken_by_both() {
    let server = Server::start(Hooks::default()).await;
    for path in [WORKFLOW, CONNECTOR] {
        let teams = channel(URL, &hook(&server, path));
        for character in ["x", "\n", "x\n", "\"", "\t", "\u{4e16}", "\u{1F534}"] {
            let mut row = saying(&format!("a{}b", character.repeat(12_000)));
            row.facts.monitor_name = character.repeat(1_000);
            teams.deliver(&row).await.unwrap();
        }
    }
    server.with(|hooks| {
        assert_eq!(hooks.cards.len(), 14);
        assert!(hooks.cards.iter().all(|card| read(card).ends_with("\u{2026}\nincident 3")));
    });
}

#[tokio::test]
async fn what_a_connector_says_in_words_is_understood() {
    let server = Server::start(Hooks::default()).await;
    let teams = channel(URL, &hook(&server, CONNECTOR));
    let answer = |body: &str| server.with(|hooks| hooks.trouble = Some(Reply(200, Vec::new(), body.to_owned())));
    for status in [429, 500, 502] {
        answer(&failed(status));
        assert!(unavailable(teams.deliver(&alert()).await).0.contains(&status.to_string()));
    }
    answer(&failed(404));
    assert!(unavailable(teams.deliver(&alert()).await).0.contains("the webhook was removed"));
    answer(&failed(413));
    assert!(permanent(teams.deliver(&alert()).await).contains("413"));
    server.with(|hooks| hooks.trouble = Some(Reply::text(400, "Invalid webhook URL")));
    assert!(unavailable(teams.deliver(&alert()).await).0.contains("its URL is wrong"));
    answer("<!DOCTYPE html><title>Sign in to your account</title>");
    assert!(unavailable(teams.deliver(&alert()).await).0.contains("Sign in"));
    answer("Microsoft Teams endpoint failed for a reason of its own");
    unavailable(teams.deliver(&alert()).await);
}

#[tokio::test]
async fn failures_are_told_apart_and_waits_obeyed() {
    let server = Server::start(Hooks::default()).await;
    let teams = channel(URL, &hook(&server, WORKFLOW));
    let refuse = |status: u16, code: &str, headers: Vec<(&'static str, String)>| {
        let body = json!({ "error": { "code": code, "message": "no" } }).to_string();
        server.with(|hooks| hooks.trouble = Some(Reply(status, headers, body)));
    };
    refuse(429, "WorkflowTriggerThrottled", vec![("retry-after", "17".to_owned())]);
    assert_eq!(unavailable(teams.deliver(&alert()).await).1, Some(Duration::from_secs(17)));
    for (status, code, hint) in [
        (400, "WorkflowTriggerIsNotEnabled", "switched off"),
        (400, "TriggerInputSchemaMismatch", "another trigger"),
        (401, "DirectApiAuthorizationRequired", "its URL is wrong"),
        (404, "WorkflowNotFound", "the webhook was removed"),
        (405, "", "its URL is wrong"),
        (410, "Gone", "the webhook was removed"),
        (502, "BadGateway", "502"),
        (302, "", "redirect"),
    ] {
        refuse(status, code, Vec::new());
        let (reason, _) = unavailable(teams.deliver(&alert()).await);
        assert!(reason.contains(hint), "{reason}");
    }
    for (status, code) in [(413, "RequestEntityTooLarge"), (400, "RequestEntityTooLarge"), (400, "")] {
        refuse(status, code, Vec::new());
        permanent(teams.deliver(&alert()).await);
    }
    assert_eq!(server.with(|hooks| hooks.cards.len()), 0);
}

#[tokio::test]
async fn the_webhook_is_never_shown() {
    let server = Server::start(Hooks::default()).await;
    for (path, part) in [(WORKFLOW, "sig planted-5ig_na+ture"), (CONNECTOR, "tenant planted-tenant-3333")] {
        let teams = channel(URL, &hook(&server, path));
        for status in [200, 302, 400, 401, 404, 418, 429, 500] {
            let echo = format!("error: no {} at {path}, {part}", hook(&server, path));
            server.with(|hooks| hooks.trouble = Some(Reply(status, Vec::new(), echo)));
            let error = format!("{:?}", teams.deliver(&alert()).await.unwrap_err());
            assert!(!error.contains("planted"), "{error}");
        }
        assert_eq!(teams.describe(), "a Microsoft Teams webhook");
    }
    let port = server.port;
    drop(server);
    let teams = channel(URL, &format!("http://127.0.0.1:{port}{WORKFLOW}"));
    let (reason, _) = unavailable(teams.deliver(&alert()).await);
    assert!(reason.contains("cannot be reached") && !reason.contains("planted"), "{reason}");
}

#[test]
fn its_examples_open() {
    examples_open("teams");
}
