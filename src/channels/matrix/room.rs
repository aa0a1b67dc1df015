//! Which room, and how the bot gets into it.

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::sync::RwLock;

use super::homeserver::{Session, is_not_let_in, not_understood};
use crate::channels::http;
use crate::channels::url::ChannelUrl;
use crate::ports::DeliveryError;

/// The specification's bound on ids and aliases, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// A room by its id or by an alias.
pub(super) struct Room {
    /// `!...` or `#...`.
    name: String,
    /// The id that the alias stood for when it was looked up; an alias can be moved to another room.
    found: RwLock<Option<String>>,
}

impl Room {
    /// Reads `room`.
    pub(super) fn open(url: &mut ChannelUrl) -> Self {
        let mut name = url.required_text("room").trim().to_owned();
        // `#` is easily lost where `#` has a meaning of its own.
        if !name.is_empty() && !name.starts_with(['!', '#']) {
            name.insert(0, '#');
        }
        let is_wrong = name.len() > MAX_NAME_BYTES || name.starts_with('#') && !name.contains(':') || name == "!";
        if is_wrong && !name.is_empty() {
            let hint = "write its id, as `!abc:example.com`, or an alias, as `#ops:example.com`";
            url.fault("room", "is neither the id nor an alias of a room", Some(hint.to_owned()));
        }
        Self { name, found: RwLock::new(None) }
    }

    /// As it was written, for people.
    pub(super) fn shown(&self) -> &str {
        &self.name
    }

    /// The room's id; an alias is looked up once.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub(super) async fn id(&self, session: &Session<'_>) -> Result<String, DeliveryError> {
        if self.name.starts_with('!') {
            return Ok(self.name.clone());
        }
        if let Some(found) = self.found.read().await.clone() {
            return Ok(found);
        }
        let answer = http::send(session.request(Method::GET, &["directory", "room", &self.name])).await?;
        let hint = format!("no room has the alias `{}`: give the room one, or correct the channel's `room`", self.name);
        match answer.status {
            StatusCode::OK => self.keep(&answer.json()["room_id"]).await,
            StatusCode::NOT_FOUND if answer.json()["errcode"] == "M_NOT_FOUND" => {
                Err(session.failure_with(&answer, Some(&hint)))
            }
            _ => Err(session.failure(&answer)),
        }
    }

    /// Joins the room, where the bot was invited or the room is open to all, and says its id. An alias is looked up anew.
    ///
    /// # Errors
    /// Why it cannot.
    pub(super) async fn join(&self, session: &Session<'_>) -> Result<String, DeliveryError> {
        *self.found.write().await = None;
        let request = session.request(Method::POST, &["join", &self.name]).json(&json!({}));
        let answer = http::send(request).await?;
        let hint = format!("invite the bot into the room `{}`", self.name);
        match answer.status {
            StatusCode::OK => self.keep(&answer.json()["room_id"]).await,
            // Synapse says of a room of nobody that no server is known for it, with a code of its own.
            _ if answer.status == StatusCode::NOT_FOUND || is_not_let_in(&answer) => {
                Err(session.failure_with(&answer, Some(&hint)))
            }
            _ => Err(session.failure(&answer)),
        }
    }

    async fn keep(&self, id: &serde_json::Value) -> Result<String, DeliveryError> {
        let Some(id) = id.as_str() else {
            return Err(not_understood("the homeserver answered 200 without the room's id"));
        };
        *self.found.write().await = Some(id.to_owned());
        Ok(id.to_owned())
    }
}
