//! ntfy: push messages to telephones, over ntfy.sh or a server of one's own.
//!
//! Protocol: a POST of JSON to the server's root (docs.ntfy.sh/publish, "Publish as JSON"); the topic is the last part of
//! the address's path. It fails as [`super::http`] tells.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use watchbell_contract::{ConfigFaults, Secret, Severity};

use super::channel_type::{ChannelOption, ChannelSettings, ChannelType};
use super::url::{Address, ChannelUrl};
use super::{http, wording};
use crate::domain::{NotificationType, OutboxRow};
use crate::ports::{Channel, Delivered, DeliveryError};

/// The server takes 4,096 bytes of text; what is longer becomes an attachment.
const MAX_TEXT_CHARS: usize = 1_300;

pub(super) static TYPE: ChannelType = ChannelType {
    name: "ntfy",
    other_names: &[],
    delivers: "Push messages to a topic of ntfy.sh or of a server of one's own.",
    address: Some("`https://server/topic`"),
    options: &[ChannelOption::optional("token", "none", "an access token of the server").secret()],
    examples: &[
        "ntfy+https://ntfy.sh/our-secret-topic",
        "ntfy+https://ntfy.example.com/ops#token=${env:WATCHBELL_SECRET_NTFY}",
    ],
    doubles: "Not idempotent: a crash between the server's answer and our commit shows a message twice.",
    limits: "Text beyond 1,300 characters is cut.",
    open,
};

struct Ntfy {
    http: reqwest::Client,
    address: Address,
    shown: String,
    token: Option<Secret>,
    public_url: Option<String>,
}

fn open(mut url: ChannelUrl, settings: &ChannelSettings) -> Result<Arc<dyn Channel>, ConfigFaults> {
    let channel = Ntfy {
        http: http::client(settings)?,
        address: url.address(),
        shown: url.shown_address(),
        token: url.secret("token"),
        public_url: settings.public_url.clone(),
    };
    Ok(url.finish(channel)?)
}

#[async_trait]
impl Channel for Ntfy {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        let (server, topic) = self.server_and_topic().await?;
        let body = json!({
            "topic": topic,
            "title": format!("{} {}", wording::emoji(message), wording::heading(message)),
            "message": wording::text(message, MAX_TEXT_CHARS),
            "priority": priority(message),
            "tags": [message.severity.as_str(), message.notification_type.as_str()],
            "click": wording::link(message, self.public_url.as_deref()),
        });
        let token = match &self.token {
            Some(token) => Some(token.reveal().await.map_err(http::secret_failure)?),
            None => None,
        };
        let mut request = self.http.post(server).json(&body);
        if let Some(token) = &token {
            request = request.bearer_auth(token.as_str());
        }
        let answer = http::send(request).await?;
        let secrets = [topic.as_str(), token.as_ref().map_or("", |token| token.as_str())];
        match answer.status.as_u16() {
            200 => Ok(Delivered {
                answer: answer.status.to_string(),
                external_id: answer.json()["id"].as_str().map(ToOwned::to_owned),
            }),
            _ => Err(answer.failure(&secrets)),
        }
    }

    fn describe(&self) -> String {
        format!("ntfy at {}", self.shown)
    }
}

impl Ntfy {
    async fn server_and_topic(&self) -> Result<(reqwest::Url, String), DeliveryError> {
        let address = self.address.reveal().await.map_err(http::secret_failure)?;
        let wrong = || DeliveryError::Unavailable {
            reason: "the channel's `url` must be `ntfy+https://server/topic`".to_owned(),
            after: None,
        };
        let mut server = reqwest::Url::parse(&address).map_err(|_| wrong())?;
        let topic = server.path().trim_matches('/').to_owned();
        if topic.is_empty() || topic.contains('/') {
            return Err(wrong());
        }
        server.set_path("/");
        Ok((server, topic))
    }
}

/// 5 is the most urgent; what is good news makes no sound in the night.
fn priority(row: &OutboxRow) -> u8 {
    match (row.notification_type, row.severity) {
        (NotificationType::Recovery | NotificationType::SelfTest, _) | (_, Severity::Info) => 2,
        (_, Severity::Warning) => 3,
        (_, Severity::Critical) => 5,
    }
}
