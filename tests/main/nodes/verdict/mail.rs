//! Messages: all arrived, in order, from nodes that had a lease, and doubles only where a fault explains them.

use std::collections::{BTreeMap, HashMap};

use super::super::faults::{Fault, LEASE, Window};
use super::super::mailbox::Mail;
use super::super::record::Notification;
use super::{Evidence, Verdict};

/// Mail that was being taken when a fault struck, in ms.
const IN_HAND: i64 = 5_000;
/// What was begun under a lease may end shortly after it, in ms.
const BEGUN: i64 = 2_000;

pub(super) fn judge(verdict: &mut Verdict, evidence: &Evidence) {
    let rows: BTreeMap<i64, &Notification> = evidence.record.notifications.iter().map(|row| (row.id, row)).collect();
    let mut copies: HashMap<&str, Vec<&Mail>> = HashMap::new();
    for mail in &evidence.mails {
        copies.entry(&mail.uuid).or_default().push(mail);
    }
    let lost = lost(&rows, &copies);
    let doubles = doubles(&copies, &evidence.windows);
    verdict.say("mails", evidence.mails.len());
    verdict.none_of("notifications not settled, or never arrived", lost);
    verdict.none_of("mails that nothing owes", unknown(&rows, &evidence.mails));
    verdict.none_of("recoveries before their alert, alerts after", out_of_order(&rows, &copies));
    verdict.say("doubles that a fault explains", doubles.explained);
    verdict.none_of("doubles otherwise", doubles.otherwise);
    verdict.none_of("mails from a node without a lease", without_lease(evidence));
}

/// The row that tells this one in the end.
fn end<'a>(rows: &BTreeMap<i64, &'a Notification>, row: &'a Notification) -> &'a Notification {
    let mut end = row;
    // A chain is never longer than what there is.
    for _ in 0..rows.len() {
        match end.merged_into.filter(|_| end.status == "merged").and_then(|into| rows.get(&into)) {
            Some(next) => end = next,
            None => break,
        }
    }
    end
}

fn lost(rows: &BTreeMap<i64, &Notification>, copies: &HashMap<&str, Vec<&Mail>>) -> Vec<String> {
    let is_told = |row: &Notification| {
        let end = end(rows, row);
        end.status == "sent" && copies.contains_key(end.uuid.as_str())
    };
    let lost = rows.values().filter(|row| !is_told(row));
    lost.map(|row| format!("{} {} of {:?} to {}: {}", row.kind, row.id, row.incident, row.recipient, row.status))
        .collect()
}

fn unknown(rows: &BTreeMap<i64, &Notification>, mails: &[Mail]) -> Vec<String> {
    let known: HashMap<&str, &str> = rows.values().map(|row| (row.uuid.as_str(), row.recipient.as_str())).collect();
    let unknown = mails.iter().filter(|mail| known.get(mail.uuid.as_str()) != Some(&mail.recipient.as_str()));
    unknown.map(|mail| format!("{} to {}: {}", mail.uuid, mail.recipient, mail.subject)).collect()
}

/// For each incident and recipient: the first copies in order, and no copy of the alert after the recovery.
fn out_of_order(rows: &BTreeMap<i64, &Notification>, copies: &HashMap<&str, Vec<&Mail>>) -> Vec<String> {
    let mut found = Vec::new();
    for recovery in rows.values().filter(|row| row.kind == "recovery") {
        let is_its_alert = |row: &&&Notification| {
            row.kind == "alert" && row.incident == recovery.incident && row.recipient == recovery.recipient
        };
        let Some(alert) = rows.values().find(is_its_alert) else { continue };
        let none = Vec::new();
        let (alerts, recoveries) =
            (copies.get(alert.uuid.as_str()).unwrap_or(&none), copies.get(recovery.uuid.as_str()).unwrap_or(&none));
        let Some(first_recovery) = recoveries.first() else { continue };
        let at = format!("incident {:?} to {}", recovery.incident, recovery.recipient);
        // An alert of which no delivery was confirmed is told by its recovery.
        if alert.status == "sent" && alerts.first().is_none_or(|alert| alert.at > first_recovery.at) {
            found.push(format!("{at}: the recovery came first"));
        } else if let Some(late) = alerts.iter().find(|alert| alert.at > first_recovery.at) {
            found.push(format!("{at}: an alert from {} came {} ms after", late.node, late.at - first_recovery.at));
        }
    }
    found
}

#[derive(Default)]
struct Doubles {
    explained: usize,
    otherwise: Vec<String>,
}

fn doubles(copies: &HashMap<&str, Vec<&Mail>>, windows: &[Window]) -> Doubles {
    let mut doubles = Doubles::default();
    for mails in copies.values() {
        for pair in mails.windows(2) {
            let (first, second) = (pair[0], pair[1]);
            let explains = |window: &&Window| {
                let is_theirs = match window.node.as_deref() {
                    None => true,
                    Some(node) if node == first.node => true,
                    // It had taken the message before it was frozen, and another did so after it.
                    Some(node) => node == second.node && window.fault == Fault::Frozen,
                };
                let is_then = window.from - IN_HAND <= first.at
                    && first.at <= window.to.saturating_add(i64::try_from(LEASE.as_millis()).unwrap());
                is_theirs && is_then && window.fault.may_double_mail()
            };
            match windows.iter().find(explains) {
                Some(_) => doubles.explained += 1,
                None => doubles.otherwise.push(format!(
                    "{} to {}: {} at {}, {} at {}",
                    first.subject, first.recipient, first.node, first.at, second.node, second.at
                )),
            }
        }
    }
    doubles
}

/// Mails of nodes that were away from the database for longer than a lease, or of all when the database was away.
fn without_lease(evidence: &Evidence) -> Vec<String> {
    let lease = i64::try_from(LEASE.as_millis()).unwrap();
    let cut: Vec<&Window> = evidence
        .windows
        .iter()
        .filter(|window| window.fault.is_of_database() || matches!(window.fault, Fault::Cut | Fault::Swallowed))
        .collect();
    let was_away = |mail: &&Mail| {
        cut.iter().any(|window| {
            let is_theirs = window.node.as_ref().is_none_or(|node| *node == mail.node);
            is_theirs && window.from + lease + BEGUN < mail.at && mail.at < window.to
        })
    };
    let found = evidence.mails.iter().filter(was_away);
    found.map(|mail| format!("{} from {} at {}", mail.subject, mail.node, mail.at)).collect()
}
