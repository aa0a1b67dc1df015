//! The kind `watchbell`: whether another installation of Watchbell is alive, by the heartbeat in its database.
//!
//! It never writes. A node writes its heartbeat only while its scheduler advances and its outbox drains, so that one
//! that hangs goes silent like one that was killed; its lease, which it renews as long as it can write, tells the two
//! apart.

use std::sync::Arc;

use watchbell_contract::{
    Check, CheckContext, ConfigFaults, ConfigReader, Example, Manifest, Monitor, Outcome, Parameter, async_trait,
};

use crate::Settings;
use crate::sql::{Dialect, Question, Row, connection_fault};

/// A heartbeat is written every 5 s: one may fail.
const LEAST_SILENCE: i64 = 10;
const MOST_SILENCE: i64 = 86_400;
const USUAL_SILENCE: i64 = 60;
/// So many nodes are named.
const MOST_NAMED: usize = 10;

static MANIFEST: Manifest = Manifest {
    kind: "watchbell",
    checks: "Whether another installation of Watchbell is alive: whether a node of it says so in its database. The \
             second one watches the first, and the first the second.",
    parameters: &[
        Parameter::required(
            "connection",
            "text",
            "the database of the other installation: the name of an entry of `connections` in the configuration",
        ),
        Parameter::optional(
            "max_silence_seconds",
            "whole number",
            "60",
            "how long ago the last heartbeat may be, 10 to 86400; nodes write one every 5 seconds",
        ),
    ],
    verdicts: "ok when at least one node wrote its heartbeat within `max_silence_seconds`, by that database's clock. A \
               node writes it only while its scheduler advances, its database can be written and its outbox drains. \
               Failed otherwise, with the nodes and how long each is silent, and whether it lives (its lease is \
               renewed, but its scheduler or its delivery is stuck) or is gone; and when the database cannot be \
               asked. Metrics: `nodes_alive`, `silence_seconds`, `monitors`, `in_alert`, `oldest_waiting_seconds`.",
    examples: &[Example {
        name: "The other Watchbell is alive",
        schedule: "* * * * *",
        config: r#"{"connection": "other_watchbell", "max_silence_seconds": 60}"#,
    }],
    limits: "Only the database is looked at: put it where the second installation reaches it when the first one's \
             machine is gone, or what is told is that the database cannot be reached. Watchbell's own database is \
             refused, also with `allow_own_database`: an installation cannot notice its own end. The role needs to \
             read `nodes`, `monitors` and `notifications`.",
    looks_at_this_machine: false,
};

/// One row a node, beside the same figures in each; one row without a node where none is registered.
pub(crate) fn statement(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => {
            "select f.*, n.name as node, \
               cast(round((julianday('now') - julianday(n.heartbeat_at)) * 86400) as integer) as silence, \
               cast(round((julianday(n.lease_until) - julianday('now')) * 86400) as integer) as lease \
             from (select (select count(*) from monitors where is_active = 1) as monitors, \
               (select count(*) from monitors where state = 'alert') as in_alert, \
               (select cast(round((julianday('now') - julianday(min(next_attempt_at))) * 86400) as integer) \
                 from notifications where status in ('pending', 'sending')) as oldest_waiting) f \
             left join nodes n on 1 = 1 \
             order by n.heartbeat_at desc, n.lease_until desc limit 100"
        }
        Dialect::Postgres => {
            "select f.*, n.name as node, \
               cast(extract(epoch from (now() - n.heartbeat_at)) as bigint) as silence, \
               cast(extract(epoch from (n.lease_until - now())) as bigint) as lease \
             from (select (select count(*) from monitors where is_active = 1) as monitors, \
               (select count(*) from monitors where state = 'alert') as in_alert, \
               (select cast(extract(epoch from (now() - min(next_attempt_at))) as bigint) \
                 from notifications where status in ('pending', 'sending')) as oldest_waiting) f \
             left join nodes n on 1 = 1 \
             order by n.heartbeat_at desc nulls last, n.lease_until desc limit 100"
        }
        Dialect::Mysql => {
            "select f.*, n.name as node, \
               timestampdiff(second, n.heartbeat_at, utc_timestamp(3)) as silence, \
               timestampdiff(second, utc_timestamp(3), n.lease_until) as lease \
             from (select (select count(*) from monitors where is_active = 1) as monitors, \
               (select count(*) from monitors where state = 'alert') as in_alert, \
               (select timestampdiff(second, min(next_attempt_at), utc_timestamp(3)) \
                 from notifications where status in ('pending', 'sending')) as oldest_waiting) f \
             left join nodes n on 1 = 1 \
             order by n.heartbeat_at desc, n.lease_until desc limit 100"
        }
    }
}

/// The kind `watchbell`.
pub struct Watchbell {
    settings: Arc<Settings>,
}

impl Watchbell {
    /// With the connections of the installation.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self { settings }
    }
}

impl Monitor for Watchbell {
    fn manifest(&self) -> &Manifest {
        &MANIFEST
    }

    fn prepare(&self, mut config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        let connection = config.required_text("connection");
        let max_silence =
            config.whole_number("max_silence_seconds", LEAST_SILENCE..=MOST_SILENCE).unwrap_or(USUAL_SILENCE);
        if let Some((fault, hint)) = connection_fault(&self.settings, &connection).filter(|_| !connection.is_empty()) {
            config.fault("connection", fault, Some(hint));
        }
        let question = Question {
            connection,
            statement,
            not_own: "and an installation cannot notice its own end (hint: watch this one from a second installation)",
        };
        config.finish(WatchbellCheck { settings: self.settings.clone(), question, max_silence })
    }
}

struct WatchbellCheck {
    settings: Arc<Settings>,
    question: Question,
    max_silence: i64,
}

#[async_trait]
impl Check for WatchbellCheck {
    async fn check(&self, context: &CheckContext) -> anyhow::Result<Outcome> {
        let rows = self.question.ask(&self.settings, context).await.map_err(|error| {
            let is_no_watchbell = ["nodes", "heartbeat_at", "notifications"]
                .iter()
                .any(|name| error.to_string().contains(name) && error.to_string().contains("the statement failed"));
            match is_no_watchbell {
                true => anyhow::anyhow!("{error} (hint: is it a database of Watchbell, of this version or newer?)"),
                false => error,
            }
        })?;
        Ok(judge(&rows, self.max_silence))
    }
}

/// A node of the other installation.
struct Node {
    name: String,
    /// Since its last heartbeat; `None`: it never wrote one.
    silence: Option<i64>,
    /// Until its lease ends; negative: since it ended.
    lease: i64,
}

impl Node {
    fn read(row: &Row) -> Option<Self> {
        let name = row.get("node")?.as_str()?.to_owned();
        Some(Self { name, silence: number(row, "silence"), lease: number(row, "lease").unwrap_or(i64::MIN) })
    }

    /// A heartbeat from the future is of a clock that differs a little, or was set back: then it says nothing.
    fn is_alive(&self, max_silence: i64) -> bool {
        self.silence.is_some_and(|silence| silence.abs() <= max_silence)
    }

    fn told(&self) -> String {
        let silence = match self.silence {
            None => "never wrote a heartbeat".to_owned(),
            Some(silence @ ..0) => {
                format!("wrote a heartbeat that lies {} s in the future (is its clock right?)", -silence)
            }
            Some(silence) => format!("silent for {silence} s"),
        };
        let lease = match self.lease {
            0.. => "it lives, but its scheduler or its delivery is stuck: read its log".to_owned(),
            i64::MIN => "it is gone".to_owned(),
            ended => format!("it is gone or stands still: its lease ended {} s ago", -ended),
        };
        format!("node `{}` {silence}; {lease}", self.name)
    }
}

fn judge(rows: &[Row], max_silence: i64) -> Outcome {
    let nodes: Vec<Node> = rows.iter().filter_map(Node::read).collect();
    let alive: Vec<&Node> = nodes.iter().filter(|node| node.is_alive(max_silence)).collect();
    let first = rows.first();
    let figure = |name| first.and_then(|row| number(row, name));
    let (monitors, in_alert) = (figure("monitors").unwrap_or(0), figure("in_alert").unwrap_or(0));
    let oldest = figure("oldest_waiting").map(|seconds| seconds.max(0));
    let silence = nodes.iter().filter_map(|node| node.silence).min();
    let message = match (alive.as_slice(), nodes.as_slice()) {
        ([], []) => {
            "no node serves it: none is registered, so the last one was stopped, or none was ever started".to_owned()
        }
        ([], silent) => {
            format!("no node of it is well within {max_silence} s: {}", listed(silent.iter().map(Node::told)))
        }
        (alive, _) => {
            let waiting = oldest.map_or("nothing waits to be sent".to_owned(), |oldest| {
                format!("the oldest message that waits is due for {oldest} s")
            });
            format!(
                "alive: {}; {monitors} active monitors, {in_alert} in alert; {waiting}",
                listed(alive.iter().map(|node| format!("node `{}`", node.name)))
            )
        }
    };
    let outcome = if alive.is_empty() { Outcome::failed(message) } else { Outcome::ok(message) };
    [
        ("nodes_alive", i64::try_from(alive.len()).ok()),
        ("silence_seconds", silence),
        ("monitors", Some(monitors)),
        ("in_alert", Some(in_alert)),
        ("oldest_waiting_seconds", oldest),
    ]
    .into_iter()
    .fold(outcome, |mut outcome, (name, value)| {
        #[allow(clippy::cast_precision_loss, reason = "counts and seconds are far below 2^53")]
        if let Some(value) = value {
            outcome.metrics.insert(name.to_owned(), value as f64);
        }
        outcome
    })
}

fn listed(texts: impl Iterator<Item = String>) -> String {
    let mut texts: Vec<String> = texts.collect();
    let more = texts.len().saturating_sub(MOST_NAMED);
    texts.truncate(MOST_NAMED);
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    texts.join(", ")
}

fn number(row: &Row, name: &str) -> Option<i64> {
    row.get(name)?.as_i64()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Row, judge};

    fn row(node: Value, silence: Value, lease: Value) -> Row {
        let row = json!({"monitors": 7, "in_alert": 2, "oldest_waiting": 3, "node": node, "silence": silence, "lease": lease});
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn one_node_that_is_well_is_enough() {
        let outcome = judge(&[row(json!("b"), json!(4), json!(16)), row(json!("a"), json!(900), json!(-880))], 60);
        assert!(outcome.is_ok);
        assert_eq!(
            outcome.message,
            "alive: node `b`; 7 active monitors, 2 in alert; the oldest message that waits is due for 3 s"
        );
        assert_eq!(outcome.metrics["nodes_alive"], 1.0);
        assert!(judge(&[row(json!("b"), json!(60), json!(1))], 60).is_ok);
    }

    #[test]
    fn a_silent_one_is_told_apart_from_one_that_is_gone() {
        for (silence, lease, words) in [
            (json!(61), json!(16), "node `a` silent for 61 s; it lives, but its scheduler or its delivery is stuck"),
            (json!(61), json!(-44), "its lease ended 44 s ago"),
            (Value::Null, json!(16), "node `a` never wrote a heartbeat; it lives"),
            (json!(-3600), json!(16), "lies 3600 s in the future"),
        ] {
            let outcome = judge(&[row(json!("a"), silence, lease)], 60);
            assert!(!outcome.is_ok && outcome.message.contains(words), "{words}: {}", outcome.message);
        }
        let outcome = judge(&[row(Value::Null, Value::Null, Value::Null)], 60);
        assert!(!outcome.is_ok && outcome.message.starts_with("no node serves it"), "{}", outcome.message);
    }
}
