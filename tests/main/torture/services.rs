//! Everybody who can be told, each behind a gate: the recipients of all monitors of the torture.

use std::any::Any;
use std::path::Path;
use std::sync::{Arc, Mutex};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::runtime::Handle;

use super::gate::{Gate, Speech};
use crate::channels::json_server::{JsonServer, Reply};
use crate::channels::push_server::{Server, Service};
use crate::channels::{discord, ntfy, pagerduty_server, slack_server, teams, telegram};
use crate::support::homeserver::{BOT, Homeserver};
use crate::support::redis::RedisServer;
use crate::support::smtp::SmtpServer;

/// What happens with a message that a service is sent twice.
#[derive(Clone, Copy)]
pub(super) enum Doubles {
    /// It is shown twice.
    Shown,
    /// Shown once: the key by which the service knows it again.
    Known(fn(&str) -> String),
    /// Events of incidents: what is open opens no second time.
    Events,
}

/// Somebody to tell.
pub(super) struct Recipient {
    /// As in `people_to_notify`.
    pub(super) name: &'static str,
    /// The type of its channel; `email` for an address.
    pub(super) channel_type: &'static str,
    /// The `url` of its row; `None`: an address.
    pub(super) url: Option<String>,
    pub(super) gate: Arc<Gate>,
    pub(super) doubles: Doubles,
}

/// All services of one installation; they stop with it.
pub(super) struct Services {
    pub(super) recipients: Vec<Recipient>,
    pub(super) smtp: SmtpServer,
    pub(super) mail: Arc<Gate>,
    pub(super) homeserver: Arc<Homeserver>,
    pub(super) room: String,
    pub(super) redis: RedisServer,
    pub(super) pagerduty: Arc<Mutex<pagerduty_server::PagerDuty>>,
    /// Those that are only kept running.
    others: Vec<Box<dyn Any>>,
}

/// The key of the stream.
pub(super) const STREAM: &str = "told:stream";

impl Services {
    pub(super) fn start(runtime: &Handle) -> Self {
        let smtp = SmtpServer::start();
        let mail = Arc::new(Gate::start(runtime, Speech::Smtp, smtp.ports().plain, |_| true));
        let homeserver = Homeserver::shared();
        let room = homeserver.create_room(&[BOT]);
        homeserver.join(BOT, &room);
        let (pagerduty_server, pagerduty) = runtime.block_on(pagerduty_server::start());
        let mut services = Self {
            recipients: Vec::new(),
            smtp,
            mail: mail.clone(),
            homeserver,
            room,
            redis: RedisServer::start(),
            pagerduty,
            others: Vec::new(),
        };
        services.add("ops@y.test", "email", None, mail.clone(), Doubles::Shown);
        services.add("duty", "mailto", Some("mailto:duty@y.test".to_owned()), mail, Doubles::Shown);
        services.add_chats(runtime);
        services.add_hooks(runtime);
        services.add_pagerduty(runtime, pagerduty_server);
        services.add_matrix(runtime);
        services.add_redis(runtime);
        services
    }

    fn add(
        &mut self,
        name: &'static str,
        channel_type: &'static str,
        url: Option<String>,
        gate: Arc<Gate>,
        doubles: Doubles,
    ) {
        self.recipients.push(Recipient { name, channel_type, url, gate, doubles });
    }

    fn add_chats(&mut self, runtime: &Handle) {
        let (server, _) = runtime.block_on(slack_server::start());
        let gate = http(runtime, port(&server), |request| request.starts_with("POST /api/chat.postMessage "));
        let (token, channel) = (slack_server::TOKEN, slack_server::CHANNEL);
        let url = format!("slack:#token={token}&channel={channel}&api=http://127.0.0.1:{}/api", gate.port);
        self.add("slack-bot", "slack", Some(url), gate, Doubles::Shown);
        self.others.push(Box::new(server));

        let (server, _) = runtime.block_on(slack_server::start());
        let gate = http(runtime, port(&server), |_| true);
        let hook = format!("http://127.0.0.1:{}{}", gate.port, slack_server::HOOK_PATH);
        self.add("slack-hook", "slack", Some(format!("slack:#webhook={hook}")), gate, Doubles::Shown);
        self.others.push(Box::new(server));

        let gate = self.push(runtime, telegram::BotApi::default(), |request| request.contains("/sendMessage "));
        let (token, chat) = (telegram::TOKEN, telegram::CHAT);
        let url = format!("telegram:#token={token}&chat_id={chat}&api=http://127.0.0.1:{}", gate.port);
        self.add("telegram", "telegram", Some(url), gate, Doubles::Shown);

        let gate = self.push(runtime, discord::Webhooks::default(), |request| request.starts_with("POST "));
        let hook = encoded(&format!("http://127.0.0.1:{}{}", gate.port, discord::PATH));
        self.add("discord", "discord", Some(format!("discord:#webhook={hook}")), gate, Doubles::Shown);

        let gate = self.push(runtime, teams::Hooks::default(), |_| true);
        let hook = encoded(&format!("http://127.0.0.1:{}{}", gate.port, teams::CONNECTOR));
        self.add("teams", "teams", Some(format!("teams:#webhook={hook}")), gate, Doubles::Shown);

        let gate = self.push(runtime, ntfy::Ntfy::default(), |_| true);
        let url = format!("ntfy+http://127.0.0.1:{}/{}#token={}", gate.port, ntfy::TOPIC, ntfy::TOKEN);
        let sequence = |request: &str| body(request)["sequence_id"].as_str().unwrap().to_owned();
        self.add("ntfy", "ntfy", Some(url), gate, Doubles::Known(sequence));
    }

    fn add_hooks(&mut self, runtime: &Handle) {
        let server = runtime.block_on(JsonServer::start(|request| match request.json() {
            Some(_) if request.headers.contains_key("idempotency-key") => Reply::text(204, ""),
            _ => Reply::text(400, "JSON with a key is wanted"),
        }));
        let gate = http(runtime, port(&server), |_| true);
        let url = format!("webhook+http://127.0.0.1:{}/told", gate.port);
        self.add("webhook", "webhook", Some(url), gate, Doubles::Known(|request| header(request, "idempotency-key")));
        self.others.push(Box::new(server));

        // The real program, and what it posts to.
        let server = runtime.block_on(JsonServer::start(|_| Reply::text(200, "")));
        let gate = http(runtime, port(&server), |_| true);
        let url = format!("apprise:json://127.0.0.1:{}/told", gate.port);
        self.add("apprise", "apprise", Some(url), gate, Doubles::Shown);
        self.others.push(Box::new(server));
    }

    fn add_pagerduty(&mut self, runtime: &Handle, server: JsonServer) {
        let gate = http(runtime, port(&server), |_| true);
        let api = format!("http://127.0.0.1:{}", gate.port);
        let url = format!("pagerduty:#routing_key={}&api={api}", pagerduty_server::KEY);
        self.add("pagerduty", "pagerduty", Some(url), gate, Doubles::Events);
        self.others.push(Box::new(server));
    }

    fn add_matrix(&mut self, runtime: &Handle) {
        let service = self.homeserver.url().rsplit(':').next().unwrap().parse().unwrap();
        let gate = http(runtime, service, |request| request.contains("/send/m%2Eroom%2Emessage/"));
        let (room, token) = (&self.room, self.homeserver.token(BOT));
        let url = format!("matrix+http://127.0.0.1:{}#room={room}&token={token}", gate.port);
        let transaction = |request: &str| request.split(' ').nth(1).unwrap().rsplit('/').next().unwrap().to_owned();
        self.add("matrix", "matrix", Some(url), gate, Doubles::Known(transaction));
    }

    fn add_redis(&mut self, runtime: &Handle) {
        let gate =
            || Arc::new(Gate::start(runtime, Speech::Redis, self.redis.port(), |asked| asked.contains("\"id\":")));
        let (stream, bus) = (gate(), gate());
        let url = format!("redis://127.0.0.1:{}#stream={STREAM}", stream.port);
        self.add("redis-stream", "redis", Some(url), stream, Doubles::Known(redis_id));
        let url = format!("redis://127.0.0.1:{}", bus.port);
        self.add("redis", "redis", Some(url), bus, Doubles::Shown);
    }

    fn push<S: Service>(&mut self, runtime: &Handle, service: S, is_message: fn(&str) -> bool) -> Arc<Gate> {
        let server = runtime.block_on(Server::start(service));
        let gate = http(runtime, server.port, is_message);
        self.others.push(Box::new(server));
        gate
    }
}

/// Where the program `apprise` is.
pub(super) fn programs() -> String {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin");
    format!("{}:{}", own.display(), std::env::var("PATH").unwrap_or_default())
}

/// The JSON of a request.
pub(super) fn body(request: &str) -> Value {
    serde_json::from_str(request.split_once("\r\n\r\n").map_or("", |(_, body)| body)).unwrap_or_default()
}

fn header(request: &str, name: &str) -> String {
    let head = request.split("\r\n\r\n").next().unwrap_or_default();
    let is_it = |line: &&str| line.split(':').next().is_some_and(|found| found.eq_ignore_ascii_case(name));
    head.lines().find(is_it).unwrap().to_owned()
}

fn redis_id(asked: &str) -> String {
    asked.split_once("\"id\":\"").unwrap_or_else(|| panic!("{asked}")).1.split('"').next().unwrap().to_owned()
}

fn http(runtime: &Handle, service: u16, is_message: fn(&str) -> bool) -> Arc<Gate> {
    Arc::new(Gate::start(runtime, Speech::Http, service, is_message))
}

fn port(server: &JsonServer) -> u16 {
    server.address.rsplit(':').next().unwrap().parse().unwrap()
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
