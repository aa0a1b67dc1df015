//! The channel `matrix` against a real homeserver.

mod commands;
mod failures;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::DateTime;
use watchbell::channels::{ChannelSettings, open};
use watchbell::domain::{Facts, IncidentId, MonitorId, NotificationId, NotificationType, OutboxRow};
use watchbell::ports::{Channel, Delivered, DeliveryError};
use watchbell_contract::{SecretError, SecretReference, Secrets, Severity};

use crate::support::homeserver::{BOT, Homeserver, OWNER};

/// The bot's token as `pass` would hold it.
struct Pass(Mutex<String>);

#[async_trait]
impl Secrets for Pass {
    fn permit(&self, _reference: &SecretReference) -> Result<(), SecretError> {
        Ok(())
    }

    async fn resolve(&self, _reference: &SecretReference) -> Result<String, SecretError> {
        Ok(self.0.lock().unwrap().clone())
    }
}

/// Where no mail is to go.
struct NoMail;

#[async_trait]
impl Channel for NoMail {
    async fn deliver(&self, _message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        panic!("a channel of its own sent mail")
    }

    fn describe(&self) -> String {
        "nowhere".to_owned()
    }
}

fn settings(token: &str) -> (ChannelSettings, Arc<Pass>) {
    let pass = Arc::new(Pass(Mutex::new(token.to_owned())));
    let settings = ChannelSettings {
        secrets: pass.clone(),
        public_url: Some("https://bell.example.com".to_owned()),
        ca_file: None,
        mail: Arc::new(NoMail),
    };
    (settings, pass)
}

/// The channel into a room, with the bot's own token. `options` begins with `&` where there are any.
fn channel(homeserver: &Homeserver, room: &str, options: &str) -> Arc<dyn Channel> {
    let url = format!("matrix+{}#room={room}&token=${{pass:matrix/bot-token}}{options}", homeserver.url());
    open(&url, &settings(&homeserver.token(BOT)).0).unwrap()
}

/// A room that the bot is in, and the channel into it.
fn room_and_channel(homeserver: &Homeserver) -> (String, Arc<dyn Channel>) {
    let room = homeserver.create_room(&[BOT]);
    homeserver.join(BOT, &room);
    let channel = channel(homeserver, &room, "");
    (room, channel)
}

fn alert(message: &str) -> OutboxRow {
    let uuid = uuid::Uuid::new_v4().to_string();
    OutboxRow {
        id: NotificationId(1),
        thread_uuid: uuid.clone(),
        uuid,
        monitor_id: Some(MonitorId(7)),
        monitor_uuid: Some("5f0c7a10-1111-4222-8333-444455556666".to_owned()),
        incident_id: Some(IncidentId(3)),
        incident_uuid: Some("7a3e1c52-9999-4aaa-8bbb-ccccddddeeee".to_owned()),
        thread_external_id: None,
        edits_external_id: None,
        facts: Facts {
            monitor_name: "Orders".to_owned(),
            labels: [("app".to_owned(), "Shop".to_owned())].into(),
            message: message.to_owned(),
            ..Facts::default()
        },
        notification_type: NotificationType::Alert,
        severity: Severity::Critical,
        recipient: "ops-matrix".to_owned(),
        subject: "[Monitor ALERT] Orders".to_owned(),
        body: "the mail's text".to_owned(),
        attempts: 1,
        created_at: DateTime::from_timestamp(1_795_294_800, 0).unwrap(),
    }
}

fn of_type(notification_type: NotificationType, message: &str) -> OutboxRow {
    OutboxRow { notification_type, ..alert(message) }
}

/// The service's name of a message that is to be taken.
async fn delivered(channel: &dyn Channel, row: &OutboxRow) -> String {
    channel.deliver(row).await.unwrap().external_id.unwrap()
}

#[tokio::test]
async fn a_message_shows_emoji_app_what_happened_and_the_page_and_markup_as_text() {
    let homeserver = Homeserver::shared();
    let (room, channel) = room_and_channel(&homeserver);
    let Delivered { answer, external_id } =
        channel.deliver(&alert("no orders <since> 'noon' & \"later\"")).await.unwrap();
    let [message] = &homeserver.messages(&room)[..] else { panic!("not one message") };
    assert_eq!(message.sender, homeserver.user_id(BOT));
    assert_eq!(external_id.as_ref(), Some(&message.event_id));
    assert_eq!(answer, format!("200 {}", message.event_id));
    let page = "https://bell.example.com/monitors/5f0c7a10-1111-4222-8333-444455556666";
    assert_eq!(
        message.body,
        format!("\u{1F534} Shop: ALERT\nno orders <since> 'noon' & \"later\"\nincident 3\n{page}")
    );
    let html =
        "\u{1F534} <strong>Shop: ALERT</strong><br>no orders &lt;since&gt; &#39;noon&#39; &amp; &quot;later&quot;";
    assert_eq!(message.formatted_body, format!("{html}<br>incident 3<br><a href=\"{page}\">{page}</a>"));
    assert_eq!(
        (message.msgtype.as_str(), message.content["format"].as_str()),
        ("m.text", Some("org.matrix.custom.html"))
    );
}

// With threads of its own, so that the client sees its connection end while the homeserver starts again.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_notification_again_shows_once_also_after_a_restart() {
    let homeserver = Homeserver::start();
    let (room, channel) = room_and_channel(&homeserver);
    let row = alert("once");
    let first = delivered(&*channel, &row).await;
    assert_eq!(delivered(&*channel, &row).await, first);
    homeserver.kill();
    homeserver.start_again();
    assert_eq!(delivered(&*channel, &row).await, first);
    let again = alert("once");
    assert_ne!(delivered(&*channel, &again).await, first, "another notification is another message");
    assert_eq!(homeserver.messages(&room).len(), 2);
}

#[tokio::test]
async fn reminders_and_recovery_are_read_in_the_incidents_thread() {
    let homeserver = Homeserver::shared();
    let (room, channel) = room_and_channel(&homeserver);
    let root = delivered(&*channel, &alert("broken")).await;
    for notification_type in [NotificationType::Reminder, NotificationType::Recovery] {
        let row = OutboxRow { thread_external_id: Some(root.clone()), ..of_type(notification_type, "later") };
        delivered(&*channel, &row).await;
    }
    let messages = homeserver.messages(&room);
    let threads: Vec<_> = messages.iter().map(|message| message.thread_root.as_deref()).collect();
    assert_eq!(threads, [None, Some(root.as_str()), Some(root.as_str())]);
    assert_eq!(messages[1].in_reply_to.as_ref(), Some(&root));
    assert_eq!(messages[1].content["m.relates_to"]["is_falling_back"], true);
    assert!(messages[2].body.starts_with("\u{2705} Shop: RECOVERED\n"), "{}", messages[2].body);
}

#[tokio::test]
async fn an_edit_shows_in_place_and_can_begin_a_thread_and_be_edited_again() {
    let homeserver = Homeserver::shared();
    let (room, channel) = room_and_channel(&homeserver);
    assert!(channel.can_edit());
    let first = delivered(&*channel, &alert("one")).await;
    for text in ["two", "three"] {
        let row = OutboxRow { edits_external_id: Some(first.clone()), ..alert(text) };
        assert_eq!(delivered(&*channel, &row).await, first, "an edit goes by the name of what it edits");
        // A retry of the edit.
        assert_eq!(delivered(&*channel, &row).await, first);
    }
    let reply = OutboxRow { thread_external_id: Some(first.clone()), ..of_type(NotificationType::Recovery, "fine") };
    delivered(&*channel, &reply).await;
    let messages = homeserver.messages(&room);
    assert_eq!(messages.len(), 4);
    assert!(messages[1].body.starts_with("* \u{1F534} Shop: ALERT\ntwo"), "{}", messages[1].body);
    let [shown, recovery] = &homeserver.shown(&room)[..] else { panic!("not two messages are shown") };
    assert!(shown.body.starts_with("\u{1F534} Shop: ALERT\nthree\n"), "{}", shown.body);
    assert_eq!(recovery.thread_root, Some(first));
}

/// The channel's `room` was changed in the middle of an incident: its recovery must arrive nevertheless.
#[tokio::test]
async fn a_message_whose_thread_lies_in_another_room_is_sent_without_it_and_once() {
    let homeserver = Homeserver::shared();
    let (_, before) = room_and_channel(&homeserver);
    let (room, after) = room_and_channel(&homeserver);
    let elsewhere = delivered(&*before, &alert("broken")).await;
    let recovery =
        OutboxRow { thread_external_id: Some(elsewhere.clone()), ..of_type(NotificationType::Recovery, "fine") };
    let first = delivered(&*after, &recovery).await;
    assert_eq!(delivered(&*after, &recovery).await, first);
    let edit = OutboxRow { edits_external_id: Some(elsewhere), ..alert("two") };
    let new = delivered(&*after, &edit).await;
    let messages = homeserver.messages(&room);
    assert_eq!(messages.iter().map(|message| &message.event_id).collect::<Vec<_>>(), [&first, &new]);
    assert!(messages.iter().all(|message| message.content.get("m.relates_to").is_none()));
    assert!(messages[1].body.starts_with("\u{1F534} "), "{}", messages[1].body);
}

#[tokio::test]
async fn a_self_test_makes_no_sound() {
    let homeserver = Homeserver::shared();
    let (room, channel) = room_and_channel(&homeserver);
    delivered(&*channel, &of_type(NotificationType::SelfTest, "alive")).await;
    delivered(&*channel, &of_type(NotificationType::Recovery, "fine")).await;
    let kinds: Vec<_> = homeserver.messages(&room).into_iter().map(|message| message.msgtype).collect();
    assert_eq!(kinds, ["m.notice", "m.text"]);
}

#[tokio::test]
async fn a_room_is_found_by_its_alias_also_when_that_moves() {
    let homeserver = Homeserver::shared();
    let name = uuid::Uuid::new_v4().simple().to_string();
    let alias = format!("#{name}:localhost");
    let first = homeserver.create_room_with_alias(&[BOT], &name);
    homeserver.join(BOT, &first);
    let with_sign = channel(&homeserver, &alias, "");
    let without_sign = channel(&homeserver, &alias[1..], "");
    delivered(&*with_sign, &alert("one")).await;
    delivered(&*without_sign, &alert("two")).await;
    assert_eq!(homeserver.messages(&first).len(), 2);
    // The room is given up: the bot is put out of it, and the alias leads to another one.
    let second = homeserver.create_room(&[BOT]);
    homeserver.delete_alias(&alias);
    homeserver.set_alias(&alias, &second);
    homeserver.kick(&first, BOT);
    delivered(&*with_sign, &alert("three")).await;
    assert_eq!(homeserver.messages(&first).len(), 2);
    assert_eq!(homeserver.messages(&second).len(), 1);
}

#[tokio::test]
async fn a_bot_that_was_invited_joins_by_itself() {
    let homeserver = Homeserver::shared();
    let room = homeserver.create_room(&[BOT]);
    let channel = channel(&homeserver, &room, "");
    let row = alert("first");
    let first = delivered(&*channel, &row).await;
    assert_eq!(delivered(&*channel, &row).await, first);
    assert_eq!(homeserver.messages(&room).len(), 1);
    assert_ne!(homeserver.user_id(OWNER), homeserver.messages(&room)[0].sender);
}

#[tokio::test]
async fn a_huge_message_is_cut_and_taken() {
    let homeserver = Homeserver::shared();
    let (room, channel) = room_and_channel(&homeserver);
    let first = delivered(&*channel, &alert(&"\"<&\n\u{1F525}".repeat(50_000))).await;
    let edit = OutboxRow { edits_external_id: Some(first), ..alert(&"\u{1}&".repeat(50_000)) };
    delivered(&*channel, &edit).await;
    let messages = homeserver.messages(&room);
    assert_eq!(messages.len(), 2);
    assert!(messages[0].body.contains('\u{2026}'), "a cut is shown");
}
