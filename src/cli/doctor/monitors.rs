//! Monitors that do not run as written, tell nobody, or are late.

use std::sync::Arc;

use chrono::TimeDelta;

use super::super::columns::{is_set, text};
use super::super::find;
use super::super::installation::Installation;
use super::finding::Finding;
use crate::domain::placement::Fleet;
use crate::domain::rules::Rules;
use crate::domain::{MonitorId, MonitorRow, People, Question, Recipients, one_line};
use crate::engine::{Kinds, row_faults};
use crate::ports::StoreError;

const ABOUT: &str = "monitors";
const PAGE: u32 = 2_000;
/// Each trouble names at most so many monitors; the rest is counted.
const MOST_NAMED: usize = 20;
/// The view is asked for all of them; more than that is not one installation.
const MOST_LISTED: u32 = 100_000;
/// Enough to know a name by.
const MOST_NAME_CHARS: usize = 200;
/// Clocks of two machines may differ so much.
const AHEAD: TimeDelta = TimeDelta::minutes(1);

/// What was found while walking the table.
#[derive(Default)]
struct Troubles {
    active: usize,
    faulty: Vec<(String, String)>,
    silent: Vec<String>,
    in_the_future: Vec<String>,
    rules: Arc<Rules>,
    /// The live nodes: which of them may run a row.
    fleet: Fleet,
}

pub(super) async fn examine(installation: &Installation) -> Vec<Finding> {
    match walk(installation).await {
        Ok((troubles, overdue)) => told(&troubles, &overdue),
        Err(error) => vec![Finding::problem(ABOUT, error.to_string(), "see the reason")],
    }
}

async fn walk(installation: &Installation) -> Result<(Troubles, Vec<String>), StoreError> {
    let store = installation.store.as_ref();
    let live = store.live_nodes().await?;
    let fleet = Fleet::new(live.nodes.iter().map(Into::into), live.now);
    let mut troubles = Troubles { rules: store.rules().await?, fleet, ..Troubles::default() };
    let mut after = MonitorId(i64::MIN);
    loop {
        let page = store.monitors(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        page.iter().filter(|row| row.is_active).for_each(|row| troubles.note(row, installation));
    }
    let status = store.monitor_status(MOST_LISTED).await?;
    let overdue = status
        .iter()
        .filter(|columns| is_set(columns, "is_overdue"))
        .map(|columns| format!("{} `{}`", text(columns, "id"), one_line(&text(columns, "name"), MOST_NAME_CHARS)))
        .collect();
    Ok((troubles, overdue))
}

impl Troubles {
    fn note(&mut self, row: &MonitorRow, installation: &Installation) {
        self.active += 1;
        let name = find::called(row);
        let zone = installation.configuration.default_timezone;
        let mut faults = row_faults(row, &installation.kinds, &self.rules, zone);
        if faults.is_empty() {
            faults.extend(self.placement_fault(row, &installation.kinds));
        }
        if !faults.is_empty() {
            self.faulty.push((name.clone(), faults.join("; ")));
        }
        let admins = &installation.configuration.admins;
        let people = Recipients::read(row.people_to_notify.as_deref(), admins, &self.rules.channels);
        let labels = row.labels();
        let question = Question::of_row(row, &people, &labels, &self.rules);
        if people.people != People::Nobody && question.of_alert(row.severity, installation.clock.now()).is_empty() {
            self.silent.push(name.clone());
        }
        if row.last_run_at.max(row.last_tick_at).is_some_and(|at| at > installation.clock.now() + AHEAD) {
            self.in_the_future.push(name);
        }
    }

    /// Why no live node may run it; nothing where there are none, which is told elsewhere.
    fn placement_fault(&self, row: &MonitorRow, kinds: &Kinds) -> Option<String> {
        let is_of_a_machine = kinds.manifest(&row.kind).is_some_and(|kind| kind.looks_at_this_machine);
        Some(self.fleet.place(row, is_of_a_machine)?.fault?.to_string())
    }
}

fn told(troubles: &Troubles, overdue: &[String]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = troubles
        .faulty
        .iter()
        .take(MOST_NAMED)
        .map(|(name, faults)| {
            Finding::problem(ABOUT, format!("{name} does not run, or not wholly, as written: {faults}"), "edit the row")
                .with_hint_of_text()
        })
        .collect();
    if let Some(more) = troubles.faulty.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        findings.push(Finding::problem(
            ABOUT,
            format!("{more} more do not run, or not wholly, as written"),
            "`watchbell list` shows them",
        ));
    }
    if !troubles.silent.is_empty() {
        findings.push(Finding::warning(
            ABOUT,
            format!("nobody is told of {}", named(&troubles.silent)),
            "set people_to_notify, for example '[\"ops@example.com\"]', or add a row of `routes` that fits; '[]' says that this \
             is meant so",
        ));
    }
    if !overdue.is_empty() {
        findings.push(Finding::problem(
            ABOUT,
            format!("overdue: {}", named(overdue)),
            "is a node serving this database, and is it the right one?",
        ));
    }
    if !troubles.in_the_future.is_empty() {
        findings.push(Finding::warning(
            "clock",
            format!("the last run lies in the future of {}", named(&troubles.in_the_future)),
            "the clock was set back; runs go on, but times in the history overlap",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(ABOUT, format!("{} active, all run as written", troubles.active)));
    }
    findings
}

fn named(monitors: &[String]) -> String {
    let shown = monitors.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    match monitors.len().checked_sub(MOST_NAMED) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Troubles, named, told};

    #[test]
    fn many_are_counted_rather_than_named() {
        let many: Vec<String> = (1..=25).map(|id| id.to_string()).collect();
        assert!(named(&many).ends_with("19, 20 and 5 more"), "{}", named(&many));
        let faulty = many.iter().map(|name| (name.clone(), "x".to_owned())).collect();
        let findings = told(&Troubles { active: 25, faulty, ..Troubles::default() }, &[]);
        assert_eq!(findings.len(), 21);
        assert!(findings[20].text.starts_with("5 more"));
    }
}
