//! `watchbell route test`: who would be told of an alert now, by which rule, and what would hold it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use watchbell_contract::Severity;

use super::FileFlag;
use super::answer::Answer;
use super::columns::text;
use super::installation::Installation;
use super::{find, ledger};
use crate::domain::planning::{Candidate, Parent, Situation, Step, plan};
use crate::domain::rules::{RuleTable, Rules};
use crate::domain::{
    Chosen, Facts, Hold, MonitorId, MonitorRow, NotificationId, NotificationType, People, Question, Recipients, State,
};
use crate::ports::{ChannelSource, Store, StoreError};

const SEVERITIES: [Severity; 3] = [Severity::Critical, Severity::Warning, Severity::Info];
/// Whether anybody was told of the open incident of a parent shows in its latest notifications.
const MOST_LOOKED_AT: u32 = 100;

/// What follows `route`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: RouteCommand,
}

#[derive(Debug, Subcommand)]
enum RouteCommand {
    /// Who would be told of an alert of this monitor now, and by which rule; nothing is written or sent
    Test(TestArguments),
}

/// What follows `route test`.
#[derive(Debug, Args)]
struct TestArguments {
    #[command(flatten)]
    file: FileFlag,
    /// The monitor: its id, uuid or name
    monitor: String,
    /// How bad the alert is; otherwise the severity of the row
    #[arg(long, value_parser = ["critical", "warning", "info"])]
    severity: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn file(&self) -> &FileFlag {
        let RouteCommand::Test(arguments) = &self.command;
        &arguments.file
    }
}

/// One recipient, as an alert would reach it.
struct Reached {
    chosen: Chosen,
    rule: String,
    after_minutes: i64,
    unless_acknowledged: bool,
    /// What would hold it, if it were due now.
    held: Option<(Hold, String)>,
    fault: Option<String>,
}

/// Everything that the answer says.
struct Reach {
    called: String,
    monitor: Value,
    severity: Severity,
    is_paused: bool,
    reached: Vec<Reached>,
    nobody: Option<&'static str>,
    faults: Vec<String>,
    to_nobody: Vec<Severity>,
    followers: Vec<String>,
}

/// Asks the rules as a run does, and the planner as the dispatcher does.
///
/// # Errors
/// When there is no such monitor, or the database cannot be read.
pub(super) async fn route(arguments: &Arguments, installation: &Installation) -> anyhow::Result<Answer> {
    let RouteCommand::Test(arguments) = &arguments.command;
    let row = find::monitor(installation.store.as_ref(), &arguments.monitor).await?;
    let severity = match &arguments.severity {
        Some(word) => word.parse().unwrap_or(row.severity),
        None => row.severity,
    };
    let reach = reach(&row, severity, installation).await?;
    match arguments.json {
        true => Answer::of_json(&reach.as_json()),
        false => Ok(Answer::of_text(reach.as_text(installation))),
    }
}

async fn reach(row: &MonitorRow, severity: Severity, installation: &Installation) -> anyhow::Result<Reach> {
    let (store, now) = (installation.store.as_ref(), installation.clock.now());
    let rules = store.rules().await?;
    let people = Recipients::read(row.people_to_notify.as_deref(), &installation.configuration.admins, &rules.channels);
    let labels = row.labels();
    let question = Question::of_row(row, &people, &labels, &rules);
    let parents = parents(store, row.id, &rules).await?;
    let channels = installation.channels().ok();
    let mut reached = Vec::new();
    for chosen in question.of_alert(severity, now) {
        let candidate = candidate(row, severity, &chosen.recipient, now);
        let held = match held(&candidate, &rules, &parents, installation, now) {
            Some(hold) => {
                let text = ledger::hold(store, &hold.reason.to_string()).await?;
                Some((hold, text))
            }
            None => None,
        };
        let route = chosen.rule.strip_prefix("route ").and_then(|id| id.parse::<i64>().ok());
        let route = route.and_then(|id| rules.routes.iter().find(|route| route.id == id));
        reached.push(Reached {
            rule: ledger::rule(store, &chosen.rule).await?,
            after_minutes: route.map_or(0, |route| route.after.num_minutes()),
            unless_acknowledged: route.is_some_and(|route| route.unless_acknowledged),
            held,
            fault: fault(&chosen.recipient, &rules, channels.as_deref()),
            chosen,
        });
    }
    reached.sort_by_key(|reached| reached.after_minutes);
    let why_nobody = match people.people {
        People::Nobody => "people_to_notify is `[]`: nobody at all, routes included",
        People::Listed(_) | People::ByRoutes => "neither people_to_notify nor a route names a recipient that there is",
    };
    let nobody = reached.is_empty().then_some(why_nobody);
    let to_nobody = SEVERITIES.into_iter().filter(|severity| question.of_alert(*severity, now).is_empty()).collect();
    let of_routes = rules.faults.iter().filter(|((table, _), _)| *table == RuleTable::Routes);
    let of_routes = of_routes.map(|((_, id), fault)| format!("route {id}: {fault}"));
    Ok(Reach {
        called: find::called(row),
        monitor: json!({"id": row.id.0, "uuid": row.uuid, "name": row.name}),
        severity,
        is_paused: !row.is_active,
        reached,
        nobody,
        faults: people.faults.iter().cloned().chain(of_routes).collect(),
        to_nobody,
        followers: rules.followers_of_states().map(ToOwned::to_owned).collect(),
    })
}

/// An alert as a run of this moment would queue it.
fn candidate(row: &MonitorRow, severity: Severity, recipient: &str, now: DateTime<Utc>) -> Candidate {
    let facts = Facts {
        monitor_name: row.name.clone(),
        kind: row.kind.clone(),
        labels: row.labels(),
        state_before: Some(State::Ok),
        state: Some(State::Alert),
        at: Some(now),
        opened_at: Some(now),
        ..Facts::default()
    };
    Candidate {
        id: NotificationId(0),
        monitor_id: Some(row.id),
        incident_id: None,
        notification_type: NotificationType::Alert,
        severity,
        recipient: recipient.to_owned(),
        rule: String::new(),
        origin: String::new(),
        facts,
        created_at: now,
        hold: None,
        is_over: false,
        is_acknowledged: false,
        is_unwanted: false,
        siblings: Vec::new(),
        earlier_recoveries: Vec::new(),
        is_overtaken: false,
        wave_end: Default::default(),
    }
}

/// What the planner itself says. Messages of the last minute are left out: they change with every second.
fn held(
    candidate: &Candidate,
    rules: &Arc<Rules>,
    parents: &HashMap<MonitorId, Parent>,
    installation: &Installation,
    now: DateTime<Utc>,
) -> Option<Hold> {
    let situation = Situation {
        now,
        rules: rules.clone(),
        recent: HashMap::new(),
        held: HashMap::new(),
        parents: parents.clone(),
        wave: None,
    };
    let steps = plan(std::slice::from_ref(candidate), situation, &BTreeMap::new(), &installation.limits());
    steps.into_iter().find_map(|step| match step {
        Step::Hold { hold, .. } => Some(hold),
        _ => None,
    })
}

/// As the planner reads them: down is who is in alert, and somebody was told of it.
async fn parents(
    store: &dyn Store,
    monitor: MonitorId,
    rules: &Rules,
) -> Result<HashMap<MonitorId, Parent>, StoreError> {
    let mut parents = HashMap::new();
    for id in rules.dependencies.ancestors(monitor) {
        let Some(row) = store.monitor(id).await? else { continue };
        let open = store.incidents(id, 1).await?.into_iter().find(|incident| text(incident, "recovered_at").is_empty());
        let told = match &open {
            Some(open) => {
                let notifications = store.notifications(id, MOST_LOOKED_AT).await?;
                notifications.iter().any(|notification| notification.get("incident_id") == open.get("id"))
            }
            None => false,
        };
        let is_down = row.is_active && row.state == State::Alert && told;
        parents
            .insert(id, Parent { is_down, is_ending: false, is_active: row.is_active, last_run_at: row.last_run_at });
    }
    Ok(parents)
}

fn fault(recipient: &str, rules: &Rules, channels: Option<&dyn ChannelSource>) -> Option<String> {
    let channel = rules.channel(recipient)?;
    match channels {
        Some(channels) => channels.open(&channel.row.url).err(),
        None => channel.row.config_error.clone(),
    }
}

impl Reach {
    fn as_json(&self) -> Value {
        json!({
            "monitor": self.monitor,
            "severity": self.severity.as_str(),
            "is_paused": self.is_paused,
            "told": self.reached.iter().map(Reached::as_json).collect::<Vec<_>>(),
            "nobody_told_because": self.nobody,
            "faults": self.faults,
            "severities_told_to_nobody": self.to_nobody.iter().map(|severity| severity.as_str()).collect::<Vec<_>>(),
            "channels_that_follow_states": self.followers,
        })
    }

    fn as_text(&self, installation: &Installation) -> String {
        let mut lines = vec![format!("an alert of monitor {} now, severity {}:", self.called, self.severity)];
        if self.is_paused {
            lines.push("the monitor is paused: it does not run, and so alerts nobody".to_owned());
        }
        if let Some(why) = self.nobody {
            lines.push(format!("  nobody is told: {why}"));
        }
        let zone = installation.configuration.default_timezone;
        for reached in &self.reached {
            let recipient = ledger::short(&reached.chosen.recipient);
            lines.push(format!("  {}: {recipient}, by {}", reached.when(), reached.rule));
            if let Some((hold, why)) = &reached.held {
                let until = ledger::until(&hold.reason.to_string(), &ledger::clock(hold.until, zone));
                lines.push(format!("    held now by {why}, {until}"));
            }
            lines.extend(
                reached.fault.as_ref().map(|fault| format!("    its channel cannot be used: {}", ledger::short(fault))),
            );
        }
        lines.extend(self.faults.iter().map(|fault| format!("fault: {}", ledger::short(fault))));
        if self.nobody.is_none() && !self.to_nobody.is_empty() {
            let severities = self.to_nobody.iter().map(|severity| severity.as_str()).collect::<Vec<_>>().join(", ");
            lines.push(format!("of severity {severities} nobody would be told"));
        }
        if !self.followers.is_empty() {
            lines.push(format!("every change of state also goes to {}", ledger::short(&self.followers.join(", "))));
        }
        lines.join("\n")
    }
}

impl Reached {
    fn when(&self) -> String {
        match (self.after_minutes, self.unless_acknowledged) {
            (0, _) => "at once".to_owned(),
            (minutes, true) => format!("after {minutes} min, unless it is acknowledged"),
            (minutes, false) => format!("after {minutes} min"),
        }
    }

    fn as_json(&self) -> Value {
        let held = self
            .held
            .as_ref()
            .map(|(hold, text)| json!({"reason": hold.reason.to_string(), "until": hold.until, "text": text}));
        json!({
            "recipient": self.chosen.recipient,
            "rule": self.chosen.rule,
            "rule_text": self.rule,
            "after_minutes": self.after_minutes,
            "unless_acknowledged": self.unless_acknowledged,
            "held_now": held,
            "fault": self.fault,
        })
    }
}
