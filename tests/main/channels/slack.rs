//! Slack: what stands in the channel afterwards, what doubles, and what a failure becomes.

use std::time::Duration;

use watchbell::domain::NotificationType;
use watchbell::ports::DeliveryError;

use super::sample_rows::{faults, open, own_row, row};
use super::slack_server::{CHANNEL, FOREIGN_CHANNEL, Fault, HOOK_PATH, TOKEN, start};

fn bot(server: &str, channel: &str) -> String {
    format!("slack:#token=${{env:{TOKEN}}}&channel={channel}&api={server}/api")
}

fn hook(server: &str) -> String {
    format!("slack:#webhook={server}${{env:{HOOK_PATH}}}")
}

#[tokio::test]
async fn a_bot_threads_and_keeps_the_first_message_up_to_date() {
    let (server, service) = start().await;
    let channel = open(&bot(&server.address, "%23night-shift"));
    assert!(channel.can_edit());
    let alert = row(1, 0, NotificationType::Alert);
    let first = channel.deliver(&alert).await.unwrap();
    assert_eq!(first.external_id.as_deref(), Some(format!("{CHANNEL}:1795294800.000001").as_str()), "not the name");
    let mut acknowledgment = row(1, 2, NotificationType::Notice);
    acknowledgment.facts.acknowledged_by = Some("Ada <ada@example.com>".to_owned());
    let follow_ups = [row(1, 1, NotificationType::Reminder), acknowledgment, row(1, 3, NotificationType::Recovery)];
    let mut headers = Vec::new();
    for mut follow_up in follow_ups {
        follow_up.thread_external_id = first.external_id.clone();
        let answer = channel.deliver(&follow_up).await.unwrap().answer;
        assert!(answer.contains("`1795294800.000001` updated"), "{answer}");
        headers.push(service.lock().unwrap().messages[0].header().to_owned());
    }
    let service = service.lock().unwrap();
    let methods = ["chat.postMessage", "chat.update"];
    let expected = [&methods[..1], &methods, &methods, &methods].concat();
    assert_eq!(service.calls, expected, "the reply goes before the update");
    let states = ["Orders: still failing", "[Monitor notice] Orders", "Orders: RECOVERED"];
    for (header, state) in headers.iter().zip(states) {
        assert!(header.ends_with(state), "{header}");
    }
    let [first, replies @ ..] = service.messages.as_slice() else { panic!("nothing was posted") };
    assert_eq!((first.id(), first.edits), ("notification-1-0", 3), "it stays the alert's message");
    assert!(first.said().contains("Was down from 2026-11-22 10:00:00 UTC to 2026-11-22 10:30:00 UTC."));
    assert_eq!(replies.len(), 3);
    for (reply, id) in replies.iter().zip(["notification-1-1", "notification-1-2", "notification-1-3"]) {
        assert_eq!((reply.thread_ts.as_ref(), reply.id()), (Some(&first.ts), id));
    }
    assert!(replies[1].blocks.to_string().contains("acknowledged by Ada &lt;ada@example.com&gt;"));
    let link = "<https://watchbell.example.com/monitors/5f0c7a10-1111-4222-8333-444455556666|open in Watchbell>";
    assert!(first.blocks.to_string().contains(link));
    assert!(first.text.contains("Orders: RECOVERED"), "{}", first.text);
}

#[tokio::test]
async fn a_failed_update_after_the_reply_does_not_double_the_reply() {
    let (server, service) = start().await;
    let channel = open(&bot(&server.address, CHANNEL));
    let first = channel.deliver(&row(1, 0, NotificationType::Alert)).await.unwrap();
    let mut recovery = row(1, 1, NotificationType::Recovery);
    recovery.thread_external_id = first.external_id;
    service.lock().unwrap().faults.extend([Fault::None, Fault::Error("internal_error")]);
    let delivered = channel.deliver(&recovery).await.unwrap();
    assert!(delivered.answer.contains("not updated: Slack answered `internal_error`"), "{}", delivered.answer);
    let service = service.lock().unwrap();
    assert_eq!((service.messages.len(), service.messages[0].edits), (2, 0));
}

#[tokio::test]
async fn an_edit_sets_the_message_and_a_lost_answer_doubles_a_post_only() {
    let (server, service) = start().await;
    let channel = open(&bot(&server.address, CHANNEL));
    let alert = row(1, 0, NotificationType::Alert);
    service.lock().unwrap().faults.push_back(Fault::LostAnswer);
    assert!(matches!(channel.deliver(&alert).await, Err(DeliveryError::Unavailable { .. })));
    let first = channel.deliver(&alert).await.unwrap();
    {
        let service = service.lock().unwrap();
        let ids: Vec<_> = service.messages.iter().map(|message| message.id()).collect();
        assert_eq!(ids, ["notification-1-0"; 2], "as documented; both have one id");
    }
    let mut again = own_row(4, NotificationType::Digest);
    again.edits_external_id = first.external_id.clone();
    service.lock().unwrap().faults.push_back(Fault::LostAnswer);
    assert!(channel.deliver(&again).await.is_err());
    assert_eq!(channel.deliver(&again).await.unwrap().external_id, first.external_id);
    let service = service.lock().unwrap();
    assert_eq!((service.messages.len(), service.messages[1].edits), (2, 2));
    assert!(service.messages[1].header().contains("[Watchbell] digest"));
}

#[tokio::test]
async fn what_cannot_be_edited_or_replied_to_is_posted_anew() {
    let (server, service) = start().await;
    let channel = open(&bot(&server.address, CHANNEL));
    let gone = format!("{CHANNEL}:1.000001");
    let foreign = format!("{FOREIGN_CHANNEL}:1.000001");
    for (number, id) in (1..).zip([gone.as_str(), &foreign, "$event:matrix.example.com"]) {
        let mut edit = row(1, number, NotificationType::Alert);
        edit.edits_external_id = Some(id.to_owned());
        channel.deliver(&edit).await.unwrap();
        let mut reply = row(2, number, NotificationType::Recovery);
        reply.thread_external_id = Some(id.to_owned());
        channel.deliver(&reply).await.unwrap();
    }
    let service = service.lock().unwrap();
    assert_eq!(service.messages.len(), 6);
    assert!(service.messages.iter().all(|message| message.thread_ts.is_none()));
}

#[tokio::test]
async fn what_is_too_long_or_means_something_to_slack_is_cut_and_escaped() {
    let (server, service) = start().await;
    let channels = [open(&bot(&server.address, CHANNEL)), open(&hook(&server.address))];
    let messages = ["<!channel> & <b>".repeat(2_000), "\u{1F525}\"\n\t".repeat(2_000), "&".to_owned(), String::new()];
    for message in messages {
        let mut alert = row(1, 0, NotificationType::Alert);
        alert.facts.monitor_name = "<Long> \u{1F525} & ".repeat(50);
        alert.facts.message = message;
        alert.body = String::new();
        alert.monitor_uuid = Some("a|b>c&d".to_owned());
        for channel in &channels {
            channel.deliver(&alert).await.unwrap();
        }
    }
    let service = service.lock().unwrap();
    assert_eq!(service.messages.len(), 8);
    assert!(service.messages[0].said().starts_with("&lt;!channel&gt; &amp; &lt;b&gt;"));
    assert!(service.messages[0].said().ends_with('\u{2026}'));
}

#[tokio::test]
async fn a_webhook_posts_and_can_do_no_more() {
    let (server, service) = start().await;
    let channel = open(&hook(&server.address));
    assert!(!channel.can_edit());
    let mut recovery = row(1, 1, NotificationType::Recovery);
    recovery.thread_external_id = Some(format!("{CHANNEL}:1.1"));
    recovery.facts.tells_alert = true;
    let delivered = channel.deliver(&recovery).await.unwrap();
    assert_eq!((delivered.answer.as_str(), delivered.external_id), ("200 OK: ok", None));
    let service = service.lock().unwrap();
    assert_eq!(service.calls, [HOOK_PATH]);
    assert!(service.messages[0].header().ends_with("Orders: was down, RECOVERED"));
    assert!(service.messages[0].said().contains("No delivery of the alert was confirmed"));
}

#[tokio::test]
async fn errors_inside_200_are_errors() {
    let (server, service) = start().await;
    let channel = open(&bot(&server.address, CHANNEL));
    let fail = async |word: &'static str| {
        service.lock().unwrap().faults.push_back(Fault::Error(word));
        channel.deliver(&row(1, 0, NotificationType::Alert)).await.unwrap_err()
    };
    for word in ["msg_too_long", "invalid_blocks", "msg_blocks_too_long", "no_text"] {
        let error = fail(word).await;
        assert!(matches!(&error, DeliveryError::Permanent { reason } if reason.contains(word)), "{error:?}");
    }
    for word in ["invalid_auth", "account_inactive", "token_revoked", "not_authed"] {
        let error = fail(word).await;
        assert!(matches!(&error, DeliveryError::Unavailable { reason, .. } if reason.contains("`token`")), "{error:?}");
    }
    for word in ["not_in_channel", "channel_not_found", "is_archived"] {
        let error = fail(word).await;
        let hint = "does the channel exist";
        assert!(matches!(&error, DeliveryError::Unavailable { reason, .. } if reason.contains(hint)), "{error:?}");
    }
    let error = fail("missing_scope").await;
    assert!(matches!(&error, DeliveryError::Unavailable { reason, .. } if reason.contains("chat:write")), "{error:?}");
    for word in ["internal_error", "fatal_error", "ratelimited"] {
        assert!(matches!(fail(word).await, DeliveryError::Unavailable { .. }), "{word}");
    }
    assert!(matches!(fail("a_word_of_next_year").await, DeliveryError::Retry { .. }));
    assert!(service.lock().unwrap().messages.is_empty());
    let lost = open(&bot(&server.address, "C0NOWHERE")).deliver(&row(1, 0, NotificationType::Alert)).await;
    assert!(lost.unwrap_err().to_string().contains("`channel_not_found`"));
}

#[tokio::test]
async fn answers_of_both_ways_are_told_apart_by_status() {
    let (server, service) = start().await;
    let channels = [open(&bot(&server.address, CHANNEL)), open(&hook(&server.address))];
    let fail = async |way: usize, status: u16, retry_after: Option<u64>, body: &str| {
        service.lock().unwrap().faults.push_back(Fault::Answer { status, retry_after, body: body.to_owned() });
        channels[way].deliver(&row(1, 0, NotificationType::Alert)).await.unwrap_err()
    };
    let wait = |error: DeliveryError| match error {
        DeliveryError::Unavailable { after, .. } => after,
        other => panic!("{other:?}"),
    };
    let limited = r#"{"ok":false,"error":"ratelimited"}"#;
    assert_eq!(wait(fail(0, 429, Some(30), limited).await), Some(Duration::from_secs(30)));
    assert_eq!(wait(fail(1, 429, Some(9), "rate_limited").await), Some(Duration::from_secs(9)));
    for way in [0, 1] {
        for (status, body) in
            [(200, "<html>"), (200, ""), (500, "oops"), (503, ""), (302, ""), (403, "no"), (400, "Bad")]
        {
            assert_eq!(wait(fail(way, status, None, body).await), None, "{way} {status}");
        }
    }
    for (status, body) in [(404, "no_service"), (403, "action_prohibited"), (410, "channel_is_archived")] {
        let error = fail(1, status, None, body).await;
        assert!(error.to_string().contains(&format!("`{body}`; ")), "with a hint: {error}");
        assert_eq!(wait(error), None);
    }
    assert!(matches!(fail(1, 400, None, "invalid_blocks").await, DeliveryError::Permanent { .. }));
    assert!(service.lock().unwrap().messages.is_empty());
    drop(server);
    for channel in &channels {
        assert_eq!(wait(channel.deliver(&row(1, 0, NotificationType::Alert)).await.unwrap_err()), None);
    }
}

#[tokio::test]
async fn token_and_webhook_are_never_shown() {
    let (server, service) = start().await;
    let mut shown = Vec::new();
    for url in [bot(&server.address, CHANNEL), hook(&server.address)] {
        let channel = open(&url);
        shown.push(channel.describe());
        for status in [200, 400, 401, 403, 404, 429, 500, 302] {
            service.lock().unwrap().faults.push_back(Fault::Echo(status));
            let error = channel.deliver(&row(1, 0, NotificationType::Alert)).await.unwrap_err();
            assert!(error.to_string().contains("***"), "the echo came through: {error}");
            shown.push(format!("{error} {error:?}"));
        }
        service.lock().unwrap().faults.push_back(Fault::LostAnswer);
        shown.push(format!("{:?}", channel.deliver(&row(1, 0, NotificationType::Alert)).await));
        shown.push(channel.deliver(&row(1, 0, NotificationType::Alert)).await.unwrap().answer);
    }
    for text in shown {
        for part in HOOK_PATH.split('/').filter(|part| part.len() > 3 && *part != "services").chain([TOKEN, "planted-"])
        {
            assert!(!text.contains(part), "`{part}` in {text}");
        }
    }
}

#[test]
fn exactly_one_way_is_given() {
    let neither = faults("slack:");
    assert!(neither.contains("url: `webhook`, or `token` and `channel`, is required"), "{neither}");
    let both = faults("slack:#webhook=x&token=y&channel=C1&api=https://x");
    for name in ["token", "channel", "api"] {
        assert!(both.contains(&format!("url#{name}: belongs to a bot")), "{both}");
    }
    assert!(faults("slack:#token=x").contains("url#channel: is required"));
    assert!(faults("slack:#channel=C1").contains("url#token: is required"));
    assert!(faults("slack:#token=x&channel=C1&api=nowhere").contains("url#api: expected an address"));
    assert!(faults("slack:#token=x&channel=a%20b").contains("url#channel: expected the id"));
    for example in watchbell::channels::find("slack").unwrap().examples {
        assert!(open(example).describe().starts_with("Slack"), "{example}");
    }
    assert_eq!(open("slack:#webhook=x").describe(), "Slack, by an incoming webhook");
    assert_eq!(open("slack:#token=x&channel=C1").describe(), "Slack channel `C1`, by a bot");
}
