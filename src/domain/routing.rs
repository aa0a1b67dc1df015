//! Whom an incident is told to, and by which rule.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use watchbell_contract::Severity;

use super::hold::HoldReason;
use super::monitor::MonitorRow;
use super::notification::Hold;
use super::recipients::{People, Recipients};
use super::rules::{Route, Rules};
use super::selector::Subject;

/// A recipient, and what chose it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// An e-mail address, or the name of a channel.
    pub recipient: String,
    /// For people: `people_to_notify`, `route 3`, `admins`.
    pub rule: String,
    /// Set where a route waits: told then, if the incident is still open.
    pub hold: Option<Hold>,
}

/// The monitor whose people are chosen.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What its row says of people.
    pub people: &'a Recipients,
    /// What everybody's rules say.
    pub rules: &'a Rules,
    /// The monitor's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// The monitor's kind.
    pub kind: &'a str,
    /// The monitor's name.
    pub name: &'a str,
}

impl<'a> Question<'a> {
    /// The question of a row as it is written. `labels` are [`MonitorRow::labels`].
    pub fn of_row(
        row: &'a MonitorRow,
        people: &'a Recipients,
        labels: &'a BTreeMap<String, String>,
        rules: &'a Rules,
    ) -> Self {
        Self { people, rules, labels, kind: &row.kind, name: &row.name }
    }
}

impl Question<'_> {
    /// Everybody whom an alert of this severity goes to, each once: first who is told at once, then who is told later.
    /// `opened_at` is what `after_minutes` counts from.
    pub fn of_alert(&self, severity: Severity, opened_at: DateTime<Utc>) -> Vec<Chosen> {
        let mut chosen = self.at_once(&[severity]);
        for route in self.routes(severity).filter(|route| route.is_escalation()) {
            let hold = Hold { until: opened_at + route.after, reason: HoldReason::Escalation(route.id) };
            add(&mut chosen, &route.recipients, || format!("route {}", route.id), Some(&hold));
        }
        chosen
    }

    /// Everybody whom a reminder goes to: the present people of these severities, and of those who were told already
    /// whoever a route still names, however late it was to tell them.
    pub fn of_reminder(&self, severities: &[Severity], told: &[String]) -> Vec<Chosen> {
        let mut chosen = self.at_once(severities);
        for route in severities.iter().flat_map(|severity| self.routes(*severity)) {
            let told: Vec<String> = route.recipients.iter().filter(|name| told.contains(name)).cloned().collect();
            add(&mut chosen, &told, || format!("route {}", route.id), None);
        }
        chosen
    }

    /// Everybody who would be told at once.
    pub fn at_once(&self, severities: &[Severity]) -> Vec<Chosen> {
        let mut chosen = Vec::new();
        match &self.people.people {
            People::Nobody => return chosen,
            People::Listed(listed) => {
                let rule = if self.people.is_fallback { "admins" } else { "people_to_notify" };
                add(&mut chosen, listed, || rule.to_owned(), None);
            }
            People::ByRoutes => {}
        }
        for route in severities.iter().flat_map(|severity| self.routes(*severity)) {
            if !route.is_escalation() {
                add(&mut chosen, &route.recipients, || format!("route {}", route.id), None);
            }
        }
        chosen
    }

    fn routes(&self, severity: Severity) -> impl Iterator<Item = &Route> {
        let is_open = self.people.people != People::Nobody;
        let subject = Subject { labels: self.labels, kind: self.kind, name: self.name, severity };
        self.rules.routes.iter().filter(move |route| is_open && route.leads(&subject))
    }
}

fn add(chosen: &mut Vec<Chosen>, names: &[String], rule: impl Fn() -> String, hold: Option<&Hold>) {
    for name in names {
        if !chosen.iter().any(|already| &already.recipient == name) {
            chosen.push(Chosen { recipient: name.clone(), rule: rule(), hold: hold.cloned() });
        }
    }
}
