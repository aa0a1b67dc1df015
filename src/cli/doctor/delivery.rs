//! Channels, routes, silences and dependencies: rows that cannot be used as written, channels that take nothing,
//! secrets that stand in the open.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::super::columns::text;
use super::super::installation::Installation;
use super::super::ledger::short;
use super::finding::Finding;
use crate::channels::plain_secrets;
use crate::domain::MonitorId;
use crate::domain::planning::MAIL_LANE;
use crate::domain::rules::{RuleTable, Rules};
use crate::ports::{ChannelSource, Columns, StoreError};

const PAGE: u32 = 2_000;
/// Each trouble names at most so many rows; the rest is counted.
const MOST_NAMED: usize = 20;
/// What is older than this and was tried is no hiccup.
const LONG: TimeDelta = TimeDelta::minutes(5);
/// Fewer than this that wait are no backlog.
const BACKLOG: i64 = 20;

pub(super) async fn examine(installation: &Installation) -> Vec<Finding> {
    match look(installation).await {
        Ok(findings) => findings,
        Err(error) => vec![Finding::problem("channels", error.to_string(), "see the reason")],
    }
}

async fn look(installation: &Installation) -> Result<Vec<Finding>, StoreError> {
    let rules = installation.store.rules().await?;
    // Without usable mail settings, which are told elsewhere, the rows say what a node found.
    let source = installation.channels().ok();
    let mut findings = channels(&rules, source.as_deref());
    findings.extend(admins(&rules, &installation.configuration.admins));
    findings.extend(rows(&rules, RuleTable::Routes, "routes"));
    findings.extend(rows(&rules, RuleTable::Silences, "silences"));
    findings.extend(dependencies(&rules, installation).await?);
    let now = installation.database_time().await?;
    findings.extend(lanes(&installation.store.lane_figures(now).await?, now));
    Ok(findings)
}

fn channels(rules: &Rules, source: Option<&dyn ChannelSource>) -> Vec<Finding> {
    const ABOUT: &str = "channels";
    let mut findings = Vec::new();
    for (name, rule) in &rules.channels {
        let name = short(name);
        let of_url = match source {
            Some(source) => source.open(&rule.row.url).err(),
            None => rule.row.config_error.clone(),
        };
        let of_row = rules.faults.get(&(RuleTable::Channels, rule.row.id)).cloned();
        let mut faults: Vec<String> = of_url.into_iter().chain(of_row).collect();
        faults.dedup();
        findings.extend(faults.into_iter().map(|fault| {
            let text = format!("`{name}` cannot be used as written: {fault}");
            Finding::problem(ABOUT, text, format!("correct row {} of `channels`", rule.row.id)).with_hint_of_text()
        }));
        let plain = plain_secrets(&rule.row.url);
        if !plain.is_empty() {
            findings.push(Finding::warning(
                ABOUT,
                format!(
                    "the url of `{name}` holds a secret that whoever reads the database sees: {}",
                    plain.join(", ")
                ),
                "write a reference in its place, such as `${env:WATCHBELL_SECRET_...}` or `${credential:...}`, and \
                 change the secret",
            ));
        }
        if !rule.row.is_active {
            findings.push(Finding::warning(
                ABOUT,
                format!("`{name}` is switched off, and holds its messages"),
                format!("UPDATE channels SET is_active = 1 WHERE id = {}", rule.row.id),
            ));
        }
    }
    if findings.is_empty() && !rules.channels.is_empty() {
        findings.push(Finding::ok(ABOUT, format!("{} can be used as written", rules.channels.len())));
    }
    capped(findings, ABOUT)
}

fn admins(rules: &Rules, admins: &[String]) -> Vec<Finding> {
    let unknown = |admin: &String| rules.recipient(&Value::from(admin.as_str())).err();
    let faults = admins.iter().filter_map(unknown);
    faults
        .map(|fault| {
            Finding::problem("admins", fault.problem().to_owned(), "correct `admins` in the configuration")
                .with_hint_of_text()
        })
        .collect()
}

fn rows(rules: &Rules, table: RuleTable, about: &'static str) -> Vec<Finding> {
    let faults = rules.faults.iter().filter(|((of, _), _)| *of == table);
    let findings = faults.map(|((_, id), fault)| {
        Finding::problem(
            about,
            format!("row {id} does not do all that it says: {fault}"),
            format!("correct it in `{about}`"),
        )
        .with_hint_of_text()
    });
    capped(findings.collect(), about)
}

async fn dependencies(rules: &Rules, installation: &Installation) -> Result<Vec<Finding>, StoreError> {
    const ABOUT: &str = "dependencies";
    if rules.dependencies.is_empty() {
        return Ok(Vec::new());
    }
    let listed = |monitors: &BTreeSet<MonitorId>| {
        let shown: Vec<String> = monitors.iter().take(MOST_NAMED).map(ToString::to_string).collect();
        match monitors.len().checked_sub(MOST_NAMED) {
            None | Some(0) => shown.join(", "),
            Some(more) => format!("{} and {more} more", shown.join(", ")),
        }
    };
    let mut findings: Vec<Finding> = rules
        .dependencies
        .circles()
        .iter()
        .map(|circle| {
            Finding::warning(
                ABOUT,
                format!(
                    "monitors {} depend on each other in a circle, so none of them holds another back",
                    listed(circle)
                ),
                "delete the row of `dependencies` that points the wrong way",
            )
        })
        .collect();
    let mut gone = rules.dependencies.named();
    let mut after = MonitorId(i64::MIN);
    loop {
        let page = installation.store.monitors(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for row in &page {
            gone.remove(&row.id);
        }
    }
    if !gone.is_empty() {
        findings.push(Finding::warning(
            ABOUT,
            format!("rows name monitors that are gone: {}", listed(&gone)),
            "DELETE FROM dependencies WHERE child_id NOT IN (SELECT id FROM monitors) OR parent_id NOT IN (SELECT id FROM \
             monitors)",
        ));
    }
    Ok(capped(findings, ABOUT))
}

/// What waits for each channel; all mail is one.
fn lanes(figures: &[Columns], now: DateTime<Utc>) -> Vec<Finding> {
    let number = |lane: &Columns, name: &str| lane.get(name).and_then(Value::as_i64).unwrap_or_default();
    let mut findings = Vec::new();
    for lane in figures {
        let name = text(lane, "lane");
        let called = if name == MAIL_LANE { "mail".to_owned() } else { format!("`{}`", short(&name)) };
        let waiting = number(lane, "waiting");
        let oldest = text(lane, "oldest_created_at").parse::<DateTime<Utc>>().ok();
        let age = oldest.map_or(TimeDelta::zero(), |oldest| now - oldest);
        let error = text(lane, "last_error");
        let (arrived, sent) = (number(lane, "arrived"), number(lane, "sent"));
        if waiting > 0 && !error.is_empty() {
            let since = format!("{waiting} wait, the oldest for {}", span(age));
            let level = if age > LONG { Finding::problem } else { Finding::warning };
            findings.push(
                level(
                    "deliveries",
                    format!("{called} takes nothing: {since}; it says: {}", short(&error)),
                    test_hint(&name),
                )
                .with_hint_of_text(),
            );
        } else if waiting >= BACKLOG && arrived > sent {
            let text = format!(
                "the backlog of {called} grows: {waiting} wait, the oldest for {}; in 10 minutes {arrived} came and {sent} were sent",
                span(age)
            );
            findings.push(Finding::warning(
                "deliveries",
                text,
                "raise `delivery.*` limits, or tell fewer people over it",
            ));
        } else if waiting > 0 && age > LONG {
            let text = format!("{called}: {waiting} wait, the oldest for {}, and nobody sends them", span(age));
            findings.push(Finding::problem("deliveries", text, "is a node serving this database?"));
        }
    }
    findings
}

fn test_hint(lane: &str) -> String {
    match lane {
        MAIL_LANE => "`watchbell notify test ADDRESS` shows the server's answer".to_owned(),
        name => format!("`watchbell notify test {}` shows the service's answer", short(name)),
    }
}

fn span(age: TimeDelta) -> String {
    let seconds = age.num_seconds().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

fn capped(mut findings: Vec<Finding>, about: &'static str) -> Vec<Finding> {
    if let Some(more @ 1..) = findings.len().checked_sub(MOST_NAMED) {
        findings.truncate(MOST_NAMED);
        findings.push(Finding::warning(about, format!("{more} more of this kind"), "mend those above first"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::Level;
    use super::lanes;

    #[test]
    fn a_lane_that_fails_or_grows_is_told() {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let of = |lane: serde_json::Value| {
            let lane = lane.as_object().unwrap().clone().into_iter().collect();
            lanes(&[lane], now).into_iter().map(|finding| (finding.level, finding.text)).collect::<Vec<_>>()
        };
        let old = json!({"lane": "@", "waiting": 3, "oldest_created_at": "2026-11-22T11:00:00.000Z", "last_error": "refused"});
        let text = "mail takes nothing: 3 wait, the oldest for 60 min; it says: refused".to_owned();
        assert_eq!(of(old), [(Level::Problem, text)]);
        let young =
            json!({"lane": "a", "waiting": 1, "oldest_created_at": "2026-11-22T11:59:00.000Z", "last_error": "x"});
        assert_eq!(of(young)[0].0, Level::Warning);
        let growing = json!({"lane": "a", "waiting": 40, "oldest_created_at": "2026-11-22T11:59:00.000Z", "arrived": 50, "sent": 10});
        assert!(of(growing)[0].1.contains("grows"));
        let fine = json!({"lane": "a", "waiting": 2, "oldest_created_at": "2026-11-22T11:59:59.000Z", "arrived": 2, "sent": 0});
        assert!(of(fine).is_empty());
    }
}
