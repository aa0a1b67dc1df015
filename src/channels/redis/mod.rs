//! Redis: a channel of PUBLISH, a stream, or both, for programs that follow what Watchbell says.
//!
//! Protocol: RESP2 (redis.io/docs/latest/develop/reference/protocol-spec), spoken by the `redis` crate over a connection of
//! [`connection`]. What is sent is the JSON of [`super::payload`].
//!
//! Idempotency: with a stream, one script does it all at once: it publishes, adds the entry, and leaves a key named
//! after the notification; where that key is there, it does nothing and says so. A script that fails has not left the key,
//! so that nothing is lost. Rejected: MULTI, which goes on after a command of it has failed (a stream's name that belongs
//! to something else), and would leave the key without the entry.
//!
//! It fails as [`failure`] tells; one connection is reused while it works, and dropped at the first failure.
//!
//! Limits: one server; no Redis Cluster, no Sentinel.

mod connection;
mod failure;

use std::sync::Arc;

use async_trait::async_trait;
use rustls::ClientConfig;
use tokio::sync::Mutex;
use watchbell_contract::ConfigFaults;

use self::connection::{Connection, Target};
use self::failure::Failure;
use super::channel_type::{ChannelOption, ChannelSettings, ChannelType};
use super::payload::Payload;
use super::url::{Address, ChannelUrl};
use super::{http, tls};
use crate::domain::OutboxRow;
use crate::ports::{Channel, Delivered, DeliveryError};

const DEFAULT_CHANNEL: &str = "watchbell";
const DEFAULT_MAX_LENGTH: u64 = 10_000;
/// An entry has some kilobytes: more than this would fill a server.
const HIGHEST_MAX_LENGTH: u64 = 10_000_000;
/// How long a notification is remembered as sent: longer than the engine tries one.
const REMEMBERED_SECONDS: u32 = 7 * 24 * 3600;

/// KEYS: the stream, the key that remembers. ARGV: length, uuid, JSON, seconds, channel (empty: none).
/// Returns the entry's id, the receivers (-1: not published), and whether it was done before.
const SCRIPT: &str = "\
local before = redis.call('GET', KEYS[2])
if before then return {before, -1, 1} end
local receivers = -1
if ARGV[5] ~= '' then receivers = redis.call('PUBLISH', ARGV[5], ARGV[3]) end
local entry = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'id', ARGV[2], 'json', ARGV[3])
redis.call('SET', KEYS[2], entry, 'EX', ARGV[4])
return {entry, receivers, 0}";

pub(super) static TYPE: ChannelType = ChannelType {
    name: "redis",
    other_names: &["rediss"],
    delivers: "Each notification as a JSON object, published to a channel of a Redis server, added to a stream, or both: \
               for programs that follow what Watchbell says. `rediss` is over TLS.",
    address: Some("`//user:password@host:6379/0`, or one secret reference that holds the whole URL"),
    options: &[
        ChannelOption::optional("channel", "`watchbell`; none where `stream` is given", "where to `PUBLISH`"),
        ChannelOption::optional("stream", "none", "the key of the stream that each notification is added to (`XADD`)"),
        ChannelOption::optional(
            "stream_max_length",
            "10000",
            "how many entries the stream keeps, about: Redis cuts whole blocks of its oldest",
        ),
    ],
    examples: &[
        "redis://user:${env:WATCHBELL_SECRET_REDIS}@redis.example.com:6379/0",
        "rediss://redis.example.com#channel=watchbell&stream=watchbell:events&stream_max_length=10000",
    ],
    doubles: "With `stream`: nothing doubles for seven days, by a key `<stream>:sent:<id>` for each notification. Without it, \
              a crash between the server's answer and our commit publishes a message twice; both have the same `id`.",
    limits: "What is published while nobody subscribes reaches nobody, and counts as sent: the ledger says `published to 0 \
             receivers`. A stream keeps it. No Redis Cluster, no Sentinel.",
    open,
};

struct Redis {
    scheme: String,
    address: Address,
    shown: String,
    tls: ClientConfig,
    channel: Option<String>,
    stream: Option<Stream>,
    public_url: Option<String>,
    /// The last one that worked. One message at a time keeps their order.
    connection: Mutex<Option<Connection>>,
}

struct Stream {
    key: String,
    max_length: u64,
}

fn open(mut url: ChannelUrl, settings: &ChannelSettings) -> Result<Arc<dyn Channel>, ConfigFaults> {
    let stream = stream(&mut url);
    let channel = match name(&mut url, "channel") {
        None if stream.is_none() => Some(DEFAULT_CHANNEL.to_owned()),
        channel => channel,
    };
    let channel = Redis {
        scheme: url.name().to_owned(),
        address: url.address(),
        shown: url.shown_address().trim_start_matches("//").to_owned(),
        tls: tls::client_config(settings.ca_file.as_deref())?,
        channel,
        stream,
        public_url: settings.public_url.clone(),
        connection: Mutex::new(None),
    };
    Ok(url.finish(channel)?)
}

fn stream(url: &mut ChannelUrl) -> Option<Stream> {
    let max_length = match url.text("stream_max_length").map(|text| text.parse()) {
        None => DEFAULT_MAX_LENGTH,
        Some(Ok(number @ 1..=HIGHEST_MAX_LENGTH)) => number,
        Some(_) => {
            url.fault("stream_max_length", format!("expected a number from 1 to {HIGHEST_MAX_LENGTH}"), None);
            DEFAULT_MAX_LENGTH
        }
    };
    if url.has("stream_max_length") && !url.has("stream") {
        url.fault("stream_max_length", "is given without `stream`", None);
    }
    name(url, "stream").map(|key| Stream { key, max_length })
}

fn name(url: &mut ChannelUrl, option: &str) -> Option<String> {
    let name = url.text(option)?;
    if name.is_empty() {
        url.fault(option, "is empty", Some("leave it out, or give it a name".to_owned()));
    }
    Some(name)
}

#[async_trait]
impl Channel for Redis {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        let json = serde_json::to_string(&Payload::of(message, self.public_url.as_deref()))
            .map_err(|error| DeliveryError::Permanent { reason: format!("the message cannot be written: {error}") })?;
        let mut last = self.connection.lock().await;
        // Taken out: only one that worked is put back.
        let (connection, delivered) = match last.take().filter(Connection::is_good) {
            Some(mut kept) => match self.send(&mut kept, &message.uuid, &json).await {
                // The server closed it while it lay idle, or was started anew: that says nothing of the server now.
                Err(failure) if failure.is_broken_connection() => self.send_anew(&message.uuid, &json).await?,
                sent => (kept, sent.map_err(|failure| failure.told(false, &[]))?),
            },
            None => self.send_anew(&message.uuid, &json).await?,
        };
        *last = Some(connection);
        Ok(delivered)
    }

    fn describe(&self) -> String {
        let targets = [
            self.channel.as_ref().map(|channel| format!("channel `{channel}`")),
            self.stream.as_ref().map(|stream| format!("stream `{}`", stream.key)),
        ];
        format!("{} at {}", targets.into_iter().flatten().collect::<Vec<_>>().join(" and "), self.shown)
    }

    fn wants_each(&self) -> bool {
        true
    }
}

impl Redis {
    async fn send_anew(&self, uuid: &str, json: &str) -> Result<(Connection, Delivered), DeliveryError> {
        let mut connection = self.connect().await?;
        let delivered = self.send(&mut connection, uuid, json).await.map_err(|failure| failure.told(false, &[]))?;
        Ok((connection, delivered))
    }

    async fn connect(&self) -> Result<Connection, DeliveryError> {
        let address = self.address.reveal().await.map_err(http::secret_failure)?;
        // A secret may hold the whole URL, or what stands after `redis:`.
        let is_whole = address.starts_with("redis://") || address.starts_with("rediss://");
        let url = if is_whole { address } else { format!("{}:{address}", self.scheme) };
        let target = Target::read(&url).map_err(|problem| Failure::Address(problem).told(true, &[]))?;
        let connected = Connection::open(&target, &self.tls).await;
        connected.map_err(|failure| failure.told(true, &target.secrets()))
    }

    async fn send(&self, connection: &mut Connection, uuid: &str, json: &str) -> Result<Delivered, Failure> {
        let Some(stream) = &self.stream else {
            let channel = self.channel.as_deref().unwrap_or(DEFAULT_CHANNEL);
            let receivers: i64 = connection.ask(redis::cmd("PUBLISH").arg(channel).arg(json)).await?;
            return Ok(Delivered { answer: published(receivers), external_id: None });
        };
        let mut script = redis::cmd("EVAL");
        script.arg(SCRIPT).arg(2).arg(&stream.key).arg(format!("{}:sent:{uuid}", stream.key));
        script.arg(stream.max_length).arg(uuid).arg(json).arg(REMEMBERED_SECONDS);
        script.arg(self.channel.as_deref().unwrap_or_default());
        let (entry, receivers, was_sent): (String, i64, bool) = connection.ask(&script).await?;
        let answer = match (was_sent, &self.channel) {
            (true, _) => format!("was sent before, as entry {entry}"),
            (false, Some(_)) => format!("entry {entry}; {}", published(receivers)),
            (false, None) => format!("entry {entry}"),
        };
        Ok(Delivered { answer, external_id: Some(entry) })
    }
}

fn published(receivers: i64) -> String {
    format!("published to {receivers} receiver{}", if receivers == 1 { "" } else { "s" })
}
