//! The dead-man's switch behind a URL: one GET or POST without a body; any `2xx` is heard.
//!
//! No channel: it delivers no message. It shares their HTTP client, and so follows no redirect and names no URL.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use watchbell_contract::{ConfigFaults, Secret};

use super::channel_type::ChannelSettings;
use super::http::{client_with, send};
use crate::ports::{DeliveryError, PingError, Pinger};

/// From the connection to the answer. What is slower is tried again at the next turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pings a URL.
pub struct HttpPinger {
    client: reqwest::Client,
    url: Secret,
    method: Method,
}

impl HttpPinger {
    /// Pings `url`, resolved at each use, by POST or by GET.
    ///
    /// # Errors
    /// When the private certificate authorities of `settings` cannot be used.
    pub fn new(url: Secret, is_post: bool, settings: &ChannelSettings) -> Result<Self, ConfigFaults> {
        let method = if is_post { Method::POST } else { Method::GET };
        Ok(Self { client: client_with(settings, PATIENCE)?, url, method })
    }
}

#[async_trait]
impl Pinger for HttpPinger {
    async fn ping(&self) -> Result<(), PingError> {
        let url = self.url.reveal().await.map_err(|error| PingError { reason: error.to_string() })?;
        // What the parser says of a URL may repeat a part of it.
        let parsed = reqwest::Url::parse(url.as_str())
            .map_err(|_| PingError { reason: "`deadman.url` is no URL once its references are resolved".to_owned() })?;
        let answer = send(self.client.request(self.method.clone(), parsed)).await.map_err(|error| {
            let (DeliveryError::Unavailable { reason, .. }
            | DeliveryError::Retry { reason, .. }
            | DeliveryError::Permanent { reason }) = error;
            PingError { reason }
        })?;
        if answer.status.is_success() {
            return Ok(());
        }
        // Not the body: it may repeat the path, which is the secret.
        Err(PingError { reason: format!("it answered {}", answer.status) })
    }
}
