//! `watchbell check`: one child asked once, without a database: for trying a config before it becomes a row.

use std::io::Read as _;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use watchbell_contract::{Monitor, Severity};

use super::answer::{Answer, Status, Trouble};
use super::{asking, installation, kinds};
use crate::config::Configuration;
use crate::domain::{FinishedRun, MissedTickPolicy, MonitorId, MonitorRow, State};
use crate::ports::SystemClock;

/// As much as the column `config` takes.
const MOST_CONFIG_BYTES: u64 = 64 * 1024;

/// What follows `check`. The configuration file is named before it: `watchbell --config FILE check ...`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The kind of child, as `watchbell kinds` lists them
    kind: String,
    /// The child's parameters: a JSON object, `@FILE` to read it from a file, `-` to read it from standard input
    #[arg(id = "child_config", long = "config", value_name = "JSON", default_value = "{}", allow_hyphen_values = true)]
    config: String,
    /// Seconds after which the check is stopped and counts as failed
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    timeout: u32,
    /// The schedule that tells since when the child looks (its tick before now)
    #[arg(long, value_name = "SCHEDULE", default_value = "*/5 * * * *")]
    schedule: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Asks once.
///
/// # Errors
/// When there is no such kind, or the config is no JSON object. A check that fails, also because the kind refuses the
/// config, is an answer.
pub(super) async fn check(
    arguments: &Arguments,
    configuration: &Configuration,
    extra_kinds: Vec<Box<dyn Monitor>>,
) -> anyhow::Result<Answer> {
    let config = read_config(&arguments.config)?;
    let kinds = Arc::new(installation::kinds(configuration, extra_kinds).await?);
    if kinds.manifest(&arguments.kind).is_none() {
        return Err(kinds::unknown(&arguments.kind, &kinds).into());
    }
    let row = row(arguments, config);
    let run = asking::ask(kinds, row, Arc::default(), configuration.default_timezone, Arc::new(SystemClock)).await?;
    let status = if run.outcome.is_ok { Status::Done } else { Status::Wrong };
    let answer = if arguments.json { as_json(&run)? } else { Answer::of_text(as_text(&run)) };
    Ok(answer.with_status(status))
}

fn read_config(given: &str) -> anyhow::Result<String> {
    let (text, place) = match given {
        "-" => (
            read_bounded(std::io::stdin().lock()).context("cannot read the config from standard input")?,
            "standard input",
        ),
        _ => match given.strip_prefix('@') {
            Some(path) => {
                let read = || std::fs::File::open(path).map_err(anyhow::Error::new).and_then(read_bounded);
                (read().with_context(|| format!("cannot read the config from `{path}`"))?, path)
            }
            None => (given.to_owned(), "--config"),
        },
    };
    match serde_json::from_str(&text) {
        Ok(serde_json::Value::Object(_)) => Ok(text),
        Ok(_) => Err(Trouble::usage(format!("{place}: expected a JSON object"))
            .hint(r#"for example {"url": "https://example.com"}"#)
            .into()),
        Err(error) => Err(Trouble::usage(format!("{place}: is no JSON: {error}"))
            .hint(r#"quote the whole for the shell, for example --config '{"url": "https://example.com"}'"#)
            .into()),
    }
}

fn read_bounded(source: impl std::io::Read) -> anyhow::Result<String> {
    let mut text = String::new();
    source.take(MOST_CONFIG_BYTES + 1).read_to_string(&mut text)?;
    anyhow::ensure!(text.len() as u64 <= MOST_CONFIG_BYTES, "it is longer than {MOST_CONFIG_BYTES} bytes");
    Ok(text)
}

/// A row that is in no table.
fn row(arguments: &Arguments, config: String) -> MonitorRow {
    MonitorRow {
        id: MonitorId(0),
        uuid: String::new(),
        is_active: true,
        name: arguments.kind.clone(),
        kind: arguments.kind.clone(),
        schedule: arguments.schedule.clone(),
        timezone: None,
        config,
        severity: Severity::Critical,
        labels: "{}".to_owned(),
        runs_on: None,
        timeout_seconds: arguments.timeout,
        retries: 0,
        retry_delay_seconds: 0,
        state: State::Ok,
        consecutive_ok_count: 0,
        required_consecutive_oks: 1,
        required_consecutive_alerts: 1,
        consecutive_alert_count: 0,
        reminder_frequency_minutes: None,
        people_to_notify: None,
        missed_tick_policy: MissedTickPolicy::Skip,
        last_tick_at: None,
        last_run_at: None,
        last_notification_at: None,
        next_run_at: None,
        config_error: None,
        revision: 0,
        recheck_seq: 0,
        write_seq: 0,
    }
}

fn as_text(run: &FinishedRun) -> String {
    let outcome = &run.outcome;
    let verdict = match (outcome.is_ok, outcome.severity) {
        (true, _) => "ok".to_owned(),
        (false, None) => "failed".to_owned(),
        (false, Some(severity)) => format!("failed ({severity})"),
    };
    let mut text = format!("{verdict} in {} ms: {}\n", run.duration.as_millis(), outcome.message.trim_end());
    for (name, value) in &outcome.metrics {
        text.push_str(&format!("  {name} = {value}\n"));
    }
    text
}

fn as_json(run: &FinishedRun) -> anyhow::Result<Answer> {
    Answer::of_json(&json!({
        "kind": run.monitor.kind,
        "is_ok": run.outcome.is_ok,
        "message": run.outcome.message,
        "severity": run.outcome.severity,
        "metrics": run.outcome.metrics,
        "config_error": run.config_error,
        "started_at": run.started_at,
        "duration_ms": u64::try_from(run.duration.as_millis()).unwrap_or(u64::MAX),
    }))
}
