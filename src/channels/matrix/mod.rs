//! Matrix: messages in a room of any homeserver, each incident a thread, and commands from that room.
//!
//! Protocol: the client-server API (spec.matrix.org/v1.11/client-server-api): `PUT .../send/m.room.message/{txnId}`,
//! threads (`m.thread`), edits (`m.replace`), `/directory/room` for aliases, `/join` where the bot was invited, `/sync`
//! for commands.
//!
//! Idempotency: the transaction id is the notification's `uuid`, so that the homeserver takes a message once, however
//! often it is handed over. It remembers that for one device: a new access token for a new login forgets it, and Synapse
//! forgets it after a day.
//!
//! How it fails: what a person can mend (a wrong token, a bot that is not in the room, an alias that is gone) holds the
//! channel's messages back, as an unreachable homeserver does; `429` is waited for as long as the homeserver asks. Only a
//! message that the homeserver refuses for what it is, is given up. Where it refuses what a message *relates* to (the
//! thread's first message lies in another room, since the channel's `room` was changed), the message is sent without:
//! nothing may be lost for want of a thread.
//!
//! - `message`: what a message looks like.
//! - `homeserver`: requests, and what their answers mean.
//! - `room`: which room, and how the bot gets into it.
//! - `commands`: what people write to the bot.

mod commands;
mod homeserver;
mod message;
mod room;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use watchbell_contract::ConfigFaults;

use self::commands::Commands;
use self::homeserver::{Homeserver, Session};
use self::message::Relation;
use self::room::Room;
use super::channel_type::{ChannelOption, ChannelSettings, ChannelType};
use super::http::{self, Answer};
use super::url::ChannelUrl;
use super::wording;
use crate::domain::{OutboxRow, one_line};
use crate::ports::{Channel, Delivered, DeliveryError, Inbox};

/// For a whole attempt, which may look up the room and join it before it sends. Well below the time for which a message
/// is claimed.
const PATIENCE: Duration = Duration::from_secs(45);
/// An event id is at most 255 bytes long.
const MAX_ANSWER_CHARS: usize = 300;

pub(super) static TYPE: ChannelType = ChannelType {
    name: "matrix",
    other_names: &[],
    delivers: "Messages in a Matrix room, each incident with its reminders and its recovery as a thread; and commands \
               from people in that room. A bot that was invited joins by itself.",
    address: Some("`https://homeserver`: the address of its client interface"),
    options: &[
        ChannelOption::required("room", "the room: its id (`!...`), or an alias (`#ops:example.com`)"),
        ChannelOption::required("token", "an access token of the bot's account").secret(),
        ChannelOption::optional(
            "commands_from",
            "nobody: commands are not listened to",
            "who may write commands in the room: user ids, parted by commas",
        ),
    ],
    examples: &[
        "matrix+https://matrix.example.com#room=#ops:example.com&token=${pass:matrix/bot-token}",
        "matrix+https://matrix.example.com#room=!id:example.com&token=${pass:matrix/bot-token}\
         &commands_from=@alice:example.com,@bob:example.com",
    ],
    doubles: "Idempotent: a retry shows once. Not so when the token was replaced between two attempts by one of a new \
              login, or when more than a day lies between them (Synapse forgets after a day).",
    limits: "Text beyond 10,000 characters is cut. Messages are not encrypted end to end: in an encrypted room they are \
             readable to the homeserver, and commands are not heard. After more than 50 messages at once between two \
             looks, the older ones are not looked through for commands. An alias is looked up once, and again when \
             the bot is not let into the room: one that is moved while the bot stays in the old room is followed after \
             the next start.",
    open,
};

struct Matrix {
    homeserver: Homeserver,
    room: Room,
    /// Where people may write commands.
    commands: Option<Commands>,
    public_url: Option<String>,
}

fn open(mut url: ChannelUrl, settings: &ChannelSettings) -> Result<Arc<dyn Channel>, ConfigFaults> {
    let channel = Matrix {
        homeserver: Homeserver::open(&mut url, settings)?,
        room: Room::open(&mut url),
        commands: Commands::open(&mut url, settings)?,
        public_url: settings.public_url.clone(),
    };
    Ok(url.finish(channel)?)
}

#[async_trait]
impl Channel for Matrix {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        match tokio::time::timeout(PATIENCE, self.try_once(message)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(DeliveryError::Unavailable {
                reason: format!("the homeserver needed more than {} s", PATIENCE.as_secs()),
                after: None,
            }),
        }
    }

    fn describe(&self) -> String {
        format!("the Matrix room {} at {}", self.room.shown(), self.homeserver.shown())
    }

    fn can_edit(&self) -> bool {
        true
    }

    fn inbox(&self) -> Option<&dyn Inbox> {
        self.commands.is_some().then_some(self as &dyn Inbox)
    }
}

impl Matrix {
    async fn try_once(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        let session = self.homeserver.session().await?;
        let relation = Relation::of(message);
        let link = wording::link(message, self.public_url.as_deref());
        let mut answer =
            self.send(&session, &message.uuid, &message::content(message, link.as_deref(), relation)).await?;
        let is_related = relation != Relation::None;
        if is_related && answer.status == StatusCode::BAD_REQUEST {
            let alone = message::content(message, link.as_deref(), Relation::None);
            // What was refused is not remembered: the transaction id still stands for one message.
            let second = self.send(&session, &message.uuid, &alone).await?;
            if second.status == StatusCode::OK {
                return delivered(&second, None);
            }
            answer = second;
        }
        match answer.status {
            StatusCode::OK => delivered(&answer, message.edits_external_id.as_deref()),
            _ => Err(session.refusal(&answer)),
        }
    }

    /// Sends into the room; where the bot is not in it, it tries once to join.
    async fn send(&self, session: &Session<'_>, transaction: &str, content: &Value) -> Result<Answer, DeliveryError> {
        let room = self.room.id(session).await?;
        let answer = put(session, &room, transaction, content).await?;
        if !homeserver::is_not_let_in(&answer) {
            return Ok(answer);
        }
        let room = self.room.join(session).await?;
        put(session, &room, transaction, content).await
    }
}

async fn put(session: &Session<'_>, room: &str, transaction: &str, content: &Value) -> Result<Answer, DeliveryError> {
    let path = ["rooms", room, "send", "m.room.message", transaction];
    http::send(session.request(Method::PUT, &path).json(content)).await
}

/// What came of a message that the homeserver took. An edit goes by the name of the message that it was edited into: that
/// is what can be edited again, and what a thread can begin with.
fn delivered(answer: &Answer, edited: Option<&str>) -> Result<Delivered, DeliveryError> {
    let json = answer.json();
    let Some(event_id) = json["event_id"].as_str() else {
        return Err(homeserver::not_understood("the homeserver answered 200 without an event id"));
    };
    Ok(Delivered {
        answer: one_line(&format!("200 {event_id}"), MAX_ANSWER_CHARS).into_owned(),
        external_id: Some(edited.unwrap_or(event_id).to_owned()),
    })
}
