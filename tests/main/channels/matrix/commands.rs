//! What people write to the bot, and what it hears.

use std::sync::Arc;

use serde_json::json;
use watchbell::ports::{Channel, Command, DeliveryError, Received};

use super::{alert, channel, delivered};
use crate::support::homeserver::{BOT, Homeserver, OWNER};

/// A look that finds something ends at once; one that finds nothing lasts 25 s.
const MOST_LOOKS: u32 = 10;
const STRANGER: &str = "mallory";

/// A room with its owner, who may command, a stranger and the bot, which is only invited.
fn room_with_people(homeserver: &Homeserver) -> (String, Arc<dyn Channel>) {
    let room = homeserver.create_room(&[BOT, STRANGER]);
    homeserver.join(STRANGER, &room);
    let channel = channel(homeserver, &room, "&commands_from=@alice:localhost,@bob:localhost");
    (room, channel)
}

async fn receive(channel: &dyn Channel, cursor: Option<&str>) -> Received {
    channel.inbox().unwrap().receive(cursor).await.unwrap()
}

/// The commands up to the one with this text, over as many looks as it takes.
async fn hear_until(channel: &dyn Channel, cursor: &mut String, last: &str) -> Vec<Command> {
    let mut heard: Vec<Command> = Vec::new();
    for _ in 0..MOST_LOOKS {
        let received = receive(channel, Some(cursor)).await;
        heard.extend(received.commands);
        *cursor = received.cursor;
        if heard.last().is_some_and(|command| command.text == last) {
            return heard;
        }
    }
    panic!("`{last}` is not heard, only {heard:?}");
}

#[tokio::test]
async fn only_a_channel_with_commanders_listens() {
    let homeserver = Homeserver::shared();
    assert!(channel(&homeserver, "!a:localhost", "").inbox().is_none());
    assert!(channel(&homeserver, "!a:localhost", "&commands_from=@alice:localhost").inbox().is_some());
}

#[tokio::test]
async fn commands_of_the_allowed_and_of_strangers_are_told_apart_and_the_past_is_skipped() {
    let homeserver = Homeserver::shared();
    let (room, channel) = room_with_people(&homeserver);
    homeserver.join(BOT, &room);
    homeserver.say(OWNER, &room, "!ack 1 long ago");
    let begun = receive(&*channel, None).await;
    assert_eq!(begun.commands, [], "what was written before is no command");
    let mut cursor = begun.cursor;

    let status = homeserver.say(OWNER, &room, "!status");
    homeserver.say(OWNER, &room, "what does !status do?");
    homeserver.send(OWNER, &room, &json!({"msgtype": "m.notice", "body": "!ack 2"}));
    homeserver.send(
        OWNER,
        &room,
        &json!({
            "msgtype": "m.text",
            "body": "!ack 3",
            "m.new_content": {"msgtype": "m.text", "body": "!ack 3"},
            "m.relates_to": {"rel_type": "m.replace", "event_id": status},
        }),
    );
    homeserver.say(BOT, &room, "!ack 4");
    delivered(&*channel, &alert("!ack 5")).await;
    homeserver.say(STRANGER, &room, "!silence everything 1d");
    homeserver.say(OWNER, &room, "!ack 7\nI look at it");

    let heard = hear_until(&*channel, &mut cursor, "!ack 7 I look at it").await;
    let told: Vec<_> =
        heard.iter().map(|command| (command.sender.as_str(), command.text.as_str(), command.is_allowed)).collect();
    assert_eq!(
        told,
        [
            ("@alice:localhost", "!status", true),
            ("@mallory:localhost", "!silence everything 1d", false),
            ("@alice:localhost", "!ack 7 I look at it", true),
        ]
    );
    assert_eq!(heard[0].id, status);
}

/// Synapse keeps what it answered to a beginning for two minutes.
#[tokio::test]
async fn each_beginning_is_from_its_own_moment_on() {
    let homeserver = Homeserver::shared();
    let (room, channel) = room_with_people(&homeserver);
    let first = receive(&*channel, None).await.cursor;
    homeserver.say(OWNER, &room, "!ack 1");
    let mut second = receive(&*channel, None).await.cursor;
    assert_ne!(first, second);
    homeserver.say(OWNER, &room, "!status");
    assert_eq!(hear_until(&*channel, &mut second, "!status").await.len(), 1);
}

#[tokio::test]
async fn a_command_wakes_the_listener_at_once() {
    let homeserver = Homeserver::shared();
    let (room, channel) = room_with_people(&homeserver);
    let cursor = receive(&*channel, None).await.cursor;
    let started = std::time::Instant::now();
    let listener = {
        let channel = channel.clone();
        tokio::spawn(async move { receive(&*channel, Some(&cursor)).await })
    };
    // Whether the listener is already there when this is written or not, it hears it long before its time is over.
    tokio::task::yield_now().await;
    homeserver.say(OWNER, &room, "!help");
    let heard = listener.await.unwrap().commands;
    assert_eq!(heard.iter().map(|command| command.text.as_str()).collect::<Vec<_>>(), ["!help"]);
    assert!(started.elapsed().as_secs() < 15, "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_answer_is_a_reply_and_shows_once() {
    let homeserver = Homeserver::shared();
    let (room, channel) = room_with_people(&homeserver);
    let mut cursor = receive(&*channel, None).await.cursor;
    homeserver.say(OWNER, &room, "!status");
    let heard = hear_until(&*channel, &mut cursor, "!status").await;
    let inbox = channel.inbox().unwrap();
    for _ in 0..2 {
        inbox.reply(&heard[0], "all 12 monitors are ok").await.unwrap();
    }
    inbox
        .reply(&Command { id: heard[0].id.clone() + "x", ..heard[0].clone() }, &"\u{1F525}".repeat(100_000))
        .await
        .unwrap();
    let messages = homeserver.messages(&room);
    assert_eq!(messages.len(), 3, "the command, and two answers");
    let answer = &messages[1];
    assert_eq!((answer.msgtype.as_str(), answer.body.as_str()), ("m.notice", "all 12 monitors are ok"));
    assert_eq!(answer.in_reply_to.as_ref(), Some(&heard[0].id));
    assert_eq!(answer.sender, homeserver.user_id(BOT));
}

#[tokio::test]
async fn a_bot_that_is_put_out_says_so_and_comes_back_when_invited_without_its_past() {
    let homeserver = Homeserver::shared();
    let (room, channel) = room_with_people(&homeserver);
    let mut cursor = receive(&*channel, None).await.cursor;
    homeserver.kick(&room, BOT);
    homeserver.say(OWNER, &room, "!ack 1 while it was away");
    for _ in 0..2 {
        match channel.inbox().unwrap().receive(Some(&cursor)).await {
            Err(DeliveryError::Unavailable { reason, .. }) => {
                assert!(reason.contains("(hint: invite the bot into the room"), "{reason}")
            }
            other => panic!("expected that the bot misses its room, found {other:?}"),
        }
    }
    homeserver.invite(&room, BOT);
    let back = receive(&*channel, Some(&cursor)).await;
    assert_eq!(back.commands, []);
    cursor = back.cursor;
    homeserver.say(OWNER, &room, "!status");
    assert_eq!(hear_until(&*channel, &mut cursor, "!status").await.len(), 1);
}

#[tokio::test]
async fn a_delivery_that_joins_the_room_meanwhile_brings_no_command_of_the_past() {
    let homeserver = Homeserver::shared();
    let (room, channel) = room_with_people(&homeserver);
    let mut cursor = receive(&*channel, None).await.cursor;
    homeserver.kick(&room, BOT);
    homeserver.say(OWNER, &room, "!ack 1 while it was away");
    homeserver.invite(&room, BOT);
    delivered(&*channel, &alert("joins")).await;
    homeserver.say(OWNER, &room, "!status");
    let heard = hear_until(&*channel, &mut cursor, "!status").await;
    assert_eq!(heard.iter().map(|command| command.text.as_str()).collect::<Vec<_>>(), ["!status"]);
}

#[tokio::test]
async fn a_listener_that_is_not_let_in_says_why() {
    let homeserver = Homeserver::shared();
    let room = homeserver.create_room(&[]);
    let channel = channel(&homeserver, &room, "&commands_from=@alice:localhost");
    match channel.inbox().unwrap().receive(None).await {
        Err(DeliveryError::Unavailable { reason, .. }) => assert!(reason.contains("(hint: invite the bot"), "{reason}"),
        other => panic!("expected that the bot is not let in, found {other:?}"),
    }
}
