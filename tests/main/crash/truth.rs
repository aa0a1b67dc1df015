//! What must be true of a database and a mailbox, whatever happened to the nodes in between.
//!
//! The record of runs is replayed through a model of the agreed state machine, which shares no code with the product:
//! it says which incidents there must be and what each recipient is owed. The mailbox is held against that.
//!
//! A message is told by its own row, or by the row that it was merged into: a digest, the recovery of an alert that could
//! not be delivered before, a later reminder. What was held until it was no longer true is withdrawn, was never tried,
//! and is owed no recovery. Everybody else who was told is owed exactly one, after everything that told of the incident.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::{Row, SqliteConnection};

use crate::support::smtp::ReceivedMail;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) runs: usize,
    pub(super) incidents: usize,
    pub(super) notifications: usize,
    pub(super) mails: usize,
    /// Mails beyond the first of their Message-ID, and those of rows that another row then told as well.
    pub(super) duplicates: usize,
    /// Rows that another row told.
    pub(super) merged: usize,
    /// Rows that were held until they were no longer true.
    pub(super) withdrawn: usize,
}

/// One stay in alert, as the runs say it was.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Owed {
    alerts: usize,
    reminders: usize,
    recoveries: usize,
    /// Whether the run that recovered says that it told of it; else nobody had been told by then.
    is_recovery_told: bool,
}

struct Monitor {
    id: i64,
    state: String,
    consecutive_ok_count: i64,
    required_consecutive_oks: i64,
    /// 0, or NULL: other intervals are longer than a test.
    reminds_always: bool,
    recipients: Vec<String>,
}

#[derive(Debug)]
struct Notification {
    id: i64,
    uuid: String,
    /// Only digests and notices belong to none.
    incident: Option<i64>,
    kind: String,
    recipient: String,
    subject: String,
    body: String,
    status: String,
    attempts: usize,
    merged_into: Option<i64>,
    /// A recovery that says that it tells of its alert as well.
    tells_alert: bool,
}

/// The outbox, by id.
struct Outbox(BTreeMap<i64, Notification>);

impl Outbox {
    /// The row that tells this one in the end: itself, where it was not merged. Withdrawn: nothing ever told it.
    fn end<'a>(&'a self, notification: &'a Notification) -> &'a Notification {
        let mut end = notification;
        while end.status == "merged" {
            let into = end.merged_into.unwrap_or_else(|| panic!("notification {}: merged into nothing", end.id));
            let next = self.0.get(&into).unwrap_or_else(|| panic!("notification {}: {into} is gone", end.id));
            // Only its own alert can be older than what was merged, so that this ends.
            assert!(next.id > end.id || next.kind == "alert", "notification {} was merged into {}", end.id, next.id);
            assert_eq!(next.recipient, notification.recipient, "notification {}: who was told instead", end.id);
            end = next;
        }
        end
    }

    fn is_told(&self, notification: &Notification) -> bool {
        self.end(notification).status == "sent"
    }

    /// The rows of an incident for one recipient, in order.
    fn line<'a>(&'a self, incident: i64, recipient: &'a str) -> impl Iterator<Item = &'a Notification> {
        self.0.values().filter(move |row| row.incident == Some(incident) && row.recipient == recipient)
    }
}

/// Checks everything. All deliveries must be settled, and all recipients good.
pub(super) async fn check(database: &mut SqliteConnection, mails: &[ReceivedMail]) -> Figures {
    let integrity: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut *database).await.unwrap();
    assert_eq!(integrity, "ok");
    let monitors = monitors(database).await;
    let outbox = notifications(database).await;
    let count = |status: &str| outbox.0.values().filter(|row| row.status == status).count();
    let mut figures = Figures {
        notifications: outbox.0.len(),
        mails: mails.len(),
        merged: count("merged"),
        withdrawn: count("withdrawn"),
        ..Figures::default()
    };
    for monitor in &monitors {
        let (owed, runs) = replay(database, monitor).await;
        figures.runs += runs;
        figures.incidents += owed.len();
        check_incidents(database, monitor, &owed, &outbox).await;
    }
    let of_no_incident: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM notifications WHERE CASE WHEN type IN ('digest', 'notice') THEN incident_id IS NOT NULL \
           ELSE incident_id IS NULL OR incident_id NOT IN (SELECT id FROM incidents) END",
    )
    .fetch_one(&mut *database)
    .await
    .unwrap();
    assert_eq!(of_no_incident, 0);
    figures.duplicates = check_mailbox(&outbox, mails);
    figures
}

/// What the runs of a monitor owe, incident by incident; each run must record what the model finds.
async fn replay(database: &mut SqliteConnection, monitor: &Monitor) -> (Vec<Owed>, usize) {
    let rows = sqlx::query(
        "SELECT id, cause, tick_at, is_ok, state_before, state_after, notification_type FROM monitor_runs \
         WHERE monitor_id = ?1 ORDER BY id",
    )
    .bind(monitor.id)
    .fetch_all(database)
    .await
    .unwrap();
    let (mut is_alert, mut oks, mut owed) = (false, 0, Vec::<Owed>::new());
    let (mut ticks, mut last_tick) = (HashSet::new(), String::new());
    for row in &rows {
        let run: i64 = row.get("id");
        let at = format!("monitor {}, run {run}", monitor.id);
        if let Some(tick) = row.get::<Option<String>, _>("tick_at") {
            assert!(ticks.insert(tick.clone()), "{at}: the tick {tick} was applied before");
            assert!(tick > last_tick, "{at}: the tick {tick} came after {last_tick}");
            last_tick = tick;
        }
        assert_eq!(row.get::<String, _>("cause") == "first", run == rows[0].get::<i64, _>("id"), "{at}: first run");
        assert_eq!(row.get::<String, _>("state_before"), word(is_alert), "{at}: state before");
        let told = match (is_alert, row.get::<i64, _>("is_ok") == 1) {
            (false, true) => None,
            (false, false) => {
                is_alert = true;
                owed.push(Owed { alerts: 1, ..Owed::default() });
                Some("alert")
            }
            (true, false) => {
                oks = 0;
                monitor.reminds_always.then(|| {
                    owed.last_mut().unwrap().reminders += 1;
                    "reminder"
                })
            }
            (true, true) => {
                oks += 1;
                (oks == monitor.required_consecutive_oks).then(|| {
                    (is_alert, oks) = (false, 0);
                    owed.last_mut().unwrap().recoveries = 1;
                    "recovery"
                })
            }
        };
        assert_eq!(row.get::<String, _>("state_after"), word(is_alert), "{at}: state after");
        let says = row.get::<Option<String>, _>("notification_type");
        match owed.last_mut().filter(|_| told == Some("recovery")) {
            // Where all was held back, nobody was told, and nobody is told of the end.
            Some(owed) => owed.is_recovery_told = says.is_some(),
            None => assert_eq!(says.as_deref(), told, "{at}: who was told what"),
        }
        assert!(says.is_none() || says.as_deref() == told, "{at}: who was told what: {says:?}");
    }
    assert_eq!(monitor.state, word(is_alert), "monitor {}: its state", monitor.id);
    assert_eq!(monitor.consecutive_ok_count, oks, "monitor {}: its oks in a row", monitor.id);
    (owed, rows.len())
}

fn word(is_alert: bool) -> &'static str {
    if is_alert { "alert" } else { "ok" }
}

/// The incidents of a monitor, and what each of its recipients has in the outbox, are exactly what is owed.
async fn check_incidents(database: &mut SqliteConnection, monitor: &Monitor, owed: &[Owed], outbox: &Outbox) {
    let incidents = sqlx::query("SELECT id, recovered_at FROM incidents WHERE monitor_id = ?1 ORDER BY id")
        .bind(monitor.id)
        .fetch_all(database)
        .await
        .unwrap();
    assert_eq!(incidents.len(), owed.len(), "monitor {}: its incidents", monitor.id);
    for (incident, owed) in incidents.iter().zip(owed) {
        let id: i64 = incident.get("id");
        let is_closed = incident.get::<Option<String>, _>("recovered_at").is_some();
        assert_eq!(is_closed, owed.recoveries == 1, "incident {id}: whether it is over");
        let others = |row: &&Notification| row.incident == Some(id) && !monitor.recipients.contains(&row.recipient);
        assert_eq!(outbox.0.values().filter(others).count(), 0, "incident {id}: nobody else is told");
        for recipient in &monitor.recipients {
            check_line(outbox, id, recipient, *owed);
        }
    }
}

/// What one recipient has of one incident.
fn check_line(outbox: &Outbox, incident: i64, recipient: &str, owed: Owed) {
    let at = format!("incident {incident}, {recipient}");
    let of_kind = |kind: &str| outbox.line(incident, recipient).filter(|row| row.kind == kind).collect::<Vec<_>>();
    let (alerts, reminders, recoveries) = (of_kind("alert"), of_kind("reminder"), of_kind("recovery"));
    assert_eq!((alerts.len(), reminders.len()), (owed.alerts, owed.reminders), "{at}: alerts and reminders");
    let was_told = alerts.iter().chain(&reminders).any(|row| outbox.is_told(row));
    let is_over = owed.recoveries == 1;
    assert!(is_over || was_told, "{at}: it is still true, and nobody was told");
    let told_recoveries = recoveries.iter().filter(|row| outbox.is_told(row)).count();
    assert_eq!(told_recoveries, usize::from(is_over && was_told), "{at}: one recovery, where anything was told");
    assert!(recoveries.len() <= owed.recoveries, "{at}: recoveries");
    assert!(owed.is_recovery_told || recoveries.is_empty(), "{at}: its run says that nobody was told of the recovery");
    for row in alerts.iter().chain(&reminders).chain(&recoveries) {
        let is_withdrawn = outbox.end(row).status == "withdrawn";
        // One of several reminders that are held is enough.
        let is_replaced = row.kind == "reminder" && reminders.iter().any(|later| later.id > row.id);
        let may_be = row.attempts == 0 && (is_over || is_replaced);
        assert!(!is_withdrawn || may_be, "{at}: {} was withdrawn", row.id);
    }
    if let Some(recovery) = recoveries.iter().find(|row| outbox.is_told(row)) {
        let by_another = |row: &&&Notification| outbox.is_told(row) && outbox.end(row).id != outbox.end(recovery).id;
        let told_before: Vec<&&Notification> = alerts.iter().chain(&reminders).filter(by_another).collect();
        // It says that no delivery was confirmed before.
        assert_eq!(recovery.tells_alert, told_before.is_empty(), "{at}: {recovery:?} after {told_before:?}");
    }
}

/// Each row that tells arrived, each mail is one of them, all copies are alike, none came before what it follows.
/// Returns how many mails came once more.
fn check_mailbox(outbox: &Outbox, mails: &[ReceivedMail]) -> usize {
    let mut copies: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, mail) in mails.iter().enumerate() {
        copies.entry(mail.header("Message-ID").unwrap()).or_default().push(place);
    }
    let mut duplicates = 0;
    let mut places: HashMap<i64, Vec<usize>> = HashMap::new();
    for row in outbox.0.values() {
        let at = format!("notification {} ({}, {})", row.id, row.kind, row.status);
        let found = copies.remove(&format!("<{}@x.test>", row.uuid)).unwrap_or_default();
        for mail in found.iter().map(|place| &mails[*place]) {
            assert_eq!(mail.rcpt, [row.recipient.as_str()], "{at}: whom it reached");
            assert_eq!(mail.subject, row.subject, "{at}");
            assert_eq!(mail.text.as_deref().unwrap_or_default().trim(), row.body.trim(), "{at}");
        }
        assert!(found.len() <= row.attempts, "{at}: {} copies of {}", found.len(), row.attempts);
        match row.status.as_str() {
            "sent" => duplicates += found.len().checked_sub(1).unwrap_or_else(|| panic!("{at} never arrived")),
            // The one gap: it had arrived, its sender died before it knew, and then another row told it.
            "merged" => duplicates += found.len(),
            "withdrawn" => assert_eq!(found.len(), 0, "{at} arrived"),
            other => panic!("{at}: {other} at the end"),
        }
        places.insert(row.id, found);
    }
    assert!(copies.is_empty(), "mails that nothing in the database owes: {:?}", copies.keys());
    check_order(outbox, &places);
    duplicates
}

/// Of one incident, to one recipient: each message that told something, and each copy of it, came before the next, and
/// the recovery last of all.
fn check_order(outbox: &Outbox, places: &HashMap<i64, Vec<usize>>) {
    let mut lines: BTreeMap<(i64, &str), BTreeMap<i64, bool>> = BTreeMap::new();
    for row in outbox.0.values().filter(|row| outbox.is_told(row)) {
        let Some(incident) = row.incident else { continue };
        let end = outbox.end(row).id;
        let own = places[&row.id].last();
        let is_before = end == row.id || own.is_none_or(|own| *own < places[&end][0]);
        // A reminder may be told by the alert before it, which is tried again.
        assert!(is_before || end < row.id, "notification {}: a copy came after {end}, which tells it", row.id);
        let ends = lines.entry((incident, row.recipient.as_str())).or_default();
        *ends.entry(end).or_default() |= row.kind == "recovery";
    }
    for ((incident, recipient), ends) in lines {
        let at = format!("incident {incident}, {recipient}");
        let ids: Vec<i64> = ends.keys().copied().collect();
        for pair in ids.windows(2) {
            let (last, first) = (*places[&pair[0]].last().unwrap(), places[&pair[1]][0]);
            assert!(last < first, "{at}: {} arrived before {}, which it follows", pair[1], pair[0]);
            assert!(!ends[&pair[0]], "{at}: {} was told after its recovery {}", pair[1], pair[0]);
        }
    }
}

async fn monitors(database: &mut SqliteConnection) -> Vec<Monitor> {
    let rows = sqlx::query(
        "SELECT id, state, consecutive_ok_count, required_consecutive_oks, people_to_notify, \
           reminder_frequency_minutes IS 0 AS reminds_always FROM monitors ORDER BY id",
    )
    .fetch_all(database)
    .await
    .unwrap();
    rows.iter()
        .map(|row| Monitor {
            id: row.get("id"),
            state: row.get("state"),
            consecutive_ok_count: row.get("consecutive_ok_count"),
            required_consecutive_oks: row.get("required_consecutive_oks"),
            reminds_always: row.get("reminds_always"),
            recipients: serde_json::from_str(row.get("people_to_notify")).unwrap(),
        })
        .collect()
}

async fn notifications(database: &mut SqliteConnection) -> Outbox {
    let rows = sqlx::query(
        "SELECT id, uuid, incident_id, type, recipient, subject, body, status, attempts, merged_into, \
           coalesce(json_extract(facts, '$.tells_alert'), 0) AS tells_alert FROM notifications ORDER BY id",
    )
    .fetch_all(database)
    .await
    .unwrap();
    let notification = |row: &sqlx::sqlite::SqliteRow| Notification {
        id: row.get("id"),
        uuid: row.get("uuid"),
        incident: row.get("incident_id"),
        kind: row.get("type"),
        recipient: row.get("recipient"),
        subject: row.get("subject"),
        body: row.get("body"),
        status: row.get("status"),
        attempts: usize::try_from(row.get::<i64, _>("attempts")).unwrap(),
        merged_into: row.get("merged_into"),
        tells_alert: row.get("tells_alert"),
    };
    Outbox(rows.iter().map(notification).map(|row| (row.id, row)).collect())
}
