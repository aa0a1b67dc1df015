//! `watchbell add`: a row of `monitors` without writing SQL, and the SQL that does the same.

use std::collections::BTreeMap;

use chrono::DateTime;
use clap::Args;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Trouble};
use super::installation::Installation;
use super::kinds;
use super::sql_text::{Dialect, insert};
use crate::domain::rules::Rules;
use crate::domain::schedule::{Schedule, parse_zone};
use crate::domain::{MonitorRow, People, Question, Recipients, one_line};
use crate::ports::NewMonitor;

/// Enough to know a name by.
const MOST_NAME_CHARS: usize = 200;

/// What follows `add`: a flag for each column. The configuration file is named before it: `watchbell --config FILE
/// add ...`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Appears in subjects
    #[arg(long)]
    name: String,
    /// The child monitor, as `watchbell kinds` lists them
    #[arg(long)]
    kind: String,
    /// Cron with 5 or 6 fields, `@hourly`, `@every 30s`
    #[arg(long)]
    schedule: String,
    /// The IANA zone in which the schedule is read; otherwise `default_timezone`
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// The child's parameters, a JSON object
    #[arg(id = "child_config", long = "config", value_name = "JSON", allow_hyphen_values = true)]
    config: Option<String>,
    /// How bad a failure is, where the outcome does not say
    #[arg(long, value_parser = ["critical", "warning", "info"])]
    severity: Option<String>,
    /// A label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = read_label)]
    labels: Vec<(String, String)>,
    /// A recipient: an e-mail address, or the name of a channel; may be repeated. Without one, the routes name them
    #[arg(long = "notify", visible_alias = "people-to-notify", value_name = "RECIPIENT", conflicts_with = "nobody")]
    people_to_notify: Vec<String>,
    /// Tell nobody at all, routes included
    #[arg(id = "nobody", long = "notify-nobody")]
    notify_nobody: bool,
    /// Seconds after which the check is stopped and counts as failed
    #[arg(long, value_name = "SECONDS")]
    timeout_seconds: Option<u32>,
    /// How often a failing check is asked again before the outcome counts
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// Seconds between these
    #[arg(long, value_name = "SECONDS")]
    retry_delay_seconds: Option<u32>,
    /// Oks in a row that end an alert
    #[arg(long, value_name = "N")]
    required_consecutive_oks: Option<u32>,
    /// Failures in a row that start one
    #[arg(long, value_name = "N")]
    required_consecutive_alerts: Option<u32>,
    /// Minutes between reminders; 0: at every failing run; `never`
    #[arg(long, value_name = "MINUTES", value_parser = read_reminder)]
    reminder_frequency_minutes: Option<Reminder>,
    /// What happens after downtime to ticks that were missed
    #[arg(long, value_parser = ["run_once", "skip"])]
    missed_tick_policy: Option<String>,
    /// Register it paused
    #[arg(long)]
    paused: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reminder {
    Minutes(u32),
    Never,
}

/// Registers the monitor, if it can be run as written.
///
/// # Errors
/// What keeps the row from being run as written, or the database from being written.
pub(super) async fn add(arguments: &Arguments, installation: &Installation) -> anyhow::Result<Answer> {
    let monitor = arguments.monitor();
    let rules = installation.store.rules().await?;
    refuse_faults(&monitor, &rules, installation)?;
    let id = installation.store.add_monitor(&monitor).await?;
    let row = installation.store.monitor(id).await?;
    let is_told = row.as_ref().is_none_or(|row| is_anybody_told(row, &rules));
    let uuid = row.map(|row| row.uuid);
    let shown = installation.configuration.database_url.masked();
    let mut columns: Vec<(&str, Option<&str>)> =
        vec![("name", Some(&monitor.name)), ("kind", Some(&monitor.kind)), ("schedule", Some(&monitor.schedule))];
    columns.extend(monitor.columns.iter().map(|(name, value)| (*name, value.as_deref())));
    let insert = insert(Dialect::of_url(&installation.database_url), &columns);
    if arguments.json {
        return Answer::of_json(&json!({"id": id.0, "uuid": uuid, "insert": insert, "database": shown}));
    }
    let silence = match is_told {
        true => "",
        false => {
            "\nnobody is told of it: `--notify` names a recipient, a row of `routes` names some for many monitors\n"
        }
    };
    Ok(Answer::of_text(format!(
        "monitor {id} `{}` is registered in {shown}; the same in SQL:\n\n{insert}\n{silence}",
        one_line(&monitor.name, MOST_NAME_CHARS)
    )))
}

impl Arguments {
    fn monitor(&self) -> NewMonitor {
        let number = |number: Option<u32>| number.map(|number| Some(number.to_string()));
        let text = |text: &Option<String>| text.clone().map(Some);
        let labels = (!self.labels.is_empty()).then(|| {
            let labels = self.labels.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str())));
            Some(Value::Object(Map::from_iter(labels)).to_string())
        });
        let people = (self.notify_nobody || !self.people_to_notify.is_empty())
            .then(|| Some(Value::from(self.people_to_notify.clone()).to_string()));
        let reminder = self.reminder_frequency_minutes.map(|reminder| match reminder {
            Reminder::Minutes(minutes) => Some(minutes.to_string()),
            Reminder::Never => None,
        });
        let given = [
            ("timezone", text(&self.timezone)),
            ("config", text(&self.config)),
            ("severity", text(&self.severity)),
            ("labels", labels),
            ("people_to_notify", people),
            ("timeout_seconds", number(self.timeout_seconds)),
            ("retries", number(self.retries)),
            ("retry_delay_seconds", number(self.retry_delay_seconds)),
            ("required_consecutive_oks", number(self.required_consecutive_oks)),
            ("required_consecutive_alerts", number(self.required_consecutive_alerts)),
            ("reminder_frequency_minutes", reminder),
            ("missed_tick_policy", text(&self.missed_tick_policy)),
            ("is_active", self.paused.then(|| Some("0".to_owned()))),
        ];
        NewMonitor {
            name: self.name.clone(),
            kind: self.kind.clone(),
            schedule: self.schedule.clone(),
            columns: given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect::<BTreeMap<_, _>>(),
        }
    }
}

impl NewMonitor {
    fn column(&self, name: &str) -> Option<&str> {
        self.columns.get(name).and_then(Option::as_deref)
    }
}

/// A row that SQL inserts may be wrong and says so in `config_error`; here somebody is still there to be told.
fn refuse_faults(monitor: &NewMonitor, rules: &Rules, installation: &Installation) -> Result<(), Trouble> {
    let zone = match monitor.column("timezone") {
        Some(name) => parse_zone(name).map_err(|error| Trouble::usage(error.problem()).hint(error.hint()))?,
        None => installation.configuration.default_timezone,
    };
    Schedule::parse(&monitor.schedule, zone).map_err(|error| Trouble::usage(error.problem()).hint(error.hint()))?;
    if installation.kinds.manifest(&monitor.kind).is_none() {
        return Err(kinds::unknown(&monitor.kind, &installation.kinds));
    }
    installation.kinds.prepare(&monitor.kind, monitor.column("config").unwrap_or("{}")).map_err(|faults| {
        Trouble::usage(faults).hint(format!("`watchbell kinds {}` prints the parameters and examples", monitor.kind))
    })?;
    match Recipients::read(monitor.column("people_to_notify"), &[], &rules.channels).faults.as_slice() {
        [] => Ok(()),
        faults => Err(Trouble::usage(faults.join("; "))),
    }
}

/// Whether an alert of the row would reach anybody, or is to reach nobody.
fn is_anybody_told(row: &MonitorRow, rules: &Rules) -> bool {
    let people = Recipients::read(row.people_to_notify.as_deref(), &[], &rules.channels);
    let labels = row.labels();
    let chosen = Question::of_row(row, &people, &labels, rules).of_alert(row.severity, DateTime::default());
    people.people == People::Nobody || !chosen.is_empty()
}

fn read_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as key=value".to_owned()),
    }
}

fn read_reminder(text: &str) -> Result<Reminder, String> {
    match text {
        "never" => Ok(Reminder::Never),
        _ => text.parse().map(Reminder::Minutes).map_err(|_| "expected minutes, or `never`".to_owned()),
    }
}
