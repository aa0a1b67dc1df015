//! What people write to the bot: messages of the room that begin with `!`, over `/sync`.
//!
//! A command is a plain message (`m.text`) of somebody else, written after the listening began. Edits are none: what was
//! obeyed cannot be taken back. Where the homeserver leaves out older messages, since many came between two looks,
//! commands among them are not heard. A bot that was put out of the room says so, and joins again once it is invited.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use uuid::Uuid;
use watchbell_contract::ConfigFaults;

use super::homeserver::{Session, not_understood};
use super::{Matrix, message};
use crate::channels::channel_type::ChannelSettings;
use crate::channels::http;
use crate::channels::url::ChannelUrl;
use crate::domain::one_line;
use crate::ports::{Command, DeliveryError, Inbox, Received};

/// How long the homeserver holds a request while nobody writes.
const LONG_POLL: Duration = Duration::from_secs(25);
/// Until the answer's end; the homeserver needs some time beside the waiting.
const PATIENCE: Duration = Duration::from_secs(45);
/// Messages of one look.
const MAX_EVENTS: u32 = 50;
/// Of one look: as many events of the greatest size, as JSON may write them.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// A command and its note.
const MAX_COMMAND_CHARS: usize = 1_000;

/// Who may command, and how they are listened to.
pub(super) struct Commands {
    /// Patient: the homeserver answers when somebody writes.
    client: Client,
    allowed: BTreeSet<String>,
    /// The bot's own user id.
    own_id: OnceCell<String>,
}

impl Commands {
    /// Reads `commands_from`; `None` where it is not given.
    ///
    /// # Errors
    /// When the installation's trust cannot be used.
    pub(super) fn open(url: &mut ChannelUrl, settings: &ChannelSettings) -> Result<Option<Self>, ConfigFaults> {
        let allowed: BTreeSet<String> = url.list("commands_from").into_iter().collect();
        for user in &allowed {
            let is_id = user.strip_prefix('@').and_then(|user| user.split_once(':'));
            if is_id.is_none_or(|(name, server)| name.is_empty() || server.is_empty()) {
                let hint = "write whole ids, as `@alice:example.com`";
                url.fault("commands_from", format!("`{user}` is not a user id"), Some(hint.to_owned()));
            }
        }
        if allowed.is_empty() {
            return Ok(None);
        }
        let client = http::client_with(settings, PATIENCE)?;
        Ok(Some(Self { client, allowed, own_id: OnceCell::new() }))
    }

    /// The command in an event, if it is one.
    fn read(&self, event: &Value, own_id: &str) -> Option<Command> {
        let (id, sender) = (event["event_id"].as_str()?, event["sender"].as_str()?);
        let content = &event["content"];
        let body = content["body"].as_str()?;
        let is_command = event["type"] == "m.room.message"
            && content["msgtype"] == "m.text"
            && content["m.relates_to"]["rel_type"] != "m.replace"
            && body.starts_with('!')
            && sender != own_id;
        is_command.then(|| Command {
            id: id.to_owned(),
            sender: sender.to_owned(),
            text: one_line(body, MAX_COMMAND_CHARS).into_owned(),
            is_allowed: self.allowed.contains(sender),
        })
    }
}

#[async_trait]
impl Inbox for Matrix {
    async fn receive(&self, cursor: Option<&str>) -> Result<Received, DeliveryError> {
        let commands = self.listening()?;
        let session = self.homeserver.session().await?;
        let room = self.room.id(&session).await?;
        let Some(cursor) = cursor else { return self.begin(commands, &session, &room).await };
        let own_id = commands.own_id.get_or_try_init(|| own_id(&session)).await?;
        let (sync, next) = look(commands, &session, &room, Some(cursor)).await?;
        let rooms = &sync["rooms"];
        if ["leave", "invite"].iter().any(|outside| rooms[outside].get(&room).is_some()) {
            return self.begin(commands, &session, &room).await;
        }
        let events = rooms["join"][&room]["timeline"]["events"].as_array().map(Vec::as_slice).unwrap_or_default();
        // A message's delivery may have joined the room meanwhile, which shows its past.
        let joined = events.iter().rposition(|event| is_join_of(event, own_id)).map_or(0, |at| at + 1);
        let new = events[joined..].iter();
        Ok(Received { commands: new.filter_map(|event| commands.read(event, own_id)).collect(), cursor: next })
    }

    async fn reply(&self, to: &Command, text: &str) -> Result<(), DeliveryError> {
        let session = self.homeserver.session().await?;
        let safe = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let transaction = format!("reply-{}", to.id.chars().filter(safe).collect::<String>());
        let answer = self.send(&session, &transaction, &message::reply(text, &to.id)).await?;
        match answer.status {
            StatusCode::OK => Ok(()),
            _ => Err(session.refusal(&answer)),
        }
    }
}

impl Matrix {
    /// From now on: what was written before is no command. Joins the room where the bot is not in it.
    async fn begin(&self, commands: &Commands, session: &Session<'_>, room: &str) -> Result<Received, DeliveryError> {
        let (sync, next) = look(commands, session, room, None).await?;
        if sync["rooms"]["join"].get(room).is_some() {
            return Ok(Received { commands: Vec::new(), cursor: next });
        }
        // A room that was joined after the look would come with its past.
        let room = self.room.join(session).await?;
        let (_, next) = look(commands, session, &room, None).await?;
        Ok(Received { commands: Vec::new(), cursor: next })
    }

    fn listening(&self) -> Result<&Commands, DeliveryError> {
        let reason = || "the channel listens to nobody: `commands_from` is not given".to_owned();
        self.commands.as_ref().ok_or_else(|| DeliveryError::Unavailable { reason: reason(), after: None })
    }
}

/// Whether somebody came into the room with this event, and did not just change a name.
fn is_join_of(event: &Value, user: &str) -> bool {
    event["type"] == "m.room.member"
        && event["state_key"] == user
        && event["content"]["membership"] == "join"
        && event["unsigned"]["prev_content"]["membership"] != "join"
}

/// The bot's own user id.
async fn own_id(session: &Session<'_>) -> Result<String, DeliveryError> {
    let answer = http::send(session.request(Method::GET, &["account", "whoami"])).await?;
    if answer.status != StatusCode::OK {
        return Err(session.failure(&answer));
    }
    let user_id = answer.json()["user_id"].as_str().map(ToOwned::to_owned);
    user_id.ok_or_else(|| not_understood("the homeserver answered 200 without the bot's user id"))
}

/// What is new since `cursor`, and where to go on. Without a cursor it answers at once, and leaves out what was written.
async fn look(
    commands: &Commands,
    session: &Session<'_>,
    room: &str,
    cursor: Option<&str>,
) -> Result<(Value, String), DeliveryError> {
    let mut filter = filter(room, if cursor.is_some() { MAX_EVENTS } else { 1 });
    if cursor.is_none() {
        // Synapse answers what was asked without a cursor before with the same words again, for two minutes. A filter of
        // its own, which leaves out a room that there is not, gets an answer of its own.
        filter["room"]["not_rooms"] = json!([format!("!{}:invalid", Uuid::new_v4())]);
    }
    let filter = filter.to_string();
    let timeout = cursor.map_or(Duration::ZERO, |_| LONG_POLL).as_millis().to_string();
    // A bot is not to be shown as a person who is there.
    let mut query = vec![("filter", filter.as_str()), ("timeout", &timeout), ("set_presence", "offline")];
    query.extend(cursor.map(|cursor| ("since", cursor)));
    let request = session.request_over(&commands.client, Method::GET, &["sync"]).query(&query);
    let answer = http::send_up_to(request, MAX_ANSWER_BYTES).await?;
    if answer.status != StatusCode::OK {
        return Err(session.failure(&answer));
    }
    let sync = answer.json();
    match sync["next_batch"].as_str().map(ToOwned::to_owned) {
        Some(next) => Ok((sync, next)),
        None => Err(not_understood("the homeserver answered 200 to a look for commands, but nothing that can be read")),
    }
}

/// Only what is needed, of one room: messages, and who came and went, since the bot's own going is told only with these.
fn filter(room: &str, limit: u32) -> Value {
    let nothing = json!({"not_types": ["*"]});
    json!({
        "event_fields": [
            "type", "event_id", "sender", "state_key", "unsigned.prev_content",
            "content.membership", "content.msgtype", "content.body", "content.m\\.relates_to",
        ],
        "presence": nothing,
        "account_data": nothing,
        "room": {
            "rooms": [room],
            "timeline": {"types": ["m.room.message", "m.room.member"], "limit": limit},
            "state": nothing,
            "ephemeral": nothing,
            "account_data": nothing,
        },
    })
}
