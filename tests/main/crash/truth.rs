//! What must be true of a database and a mailbox, whatever happened to the nodes in between.
//!
//! The record of runs is replayed through a model of the agreed state machine, which shares no code with the product:
//! it says which incidents there must be and what each recipient is owed. The mailbox is held against that.

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
    /// Mails beyond the first of their Message-ID.
    pub(super) duplicates: usize,
}

/// One stay in alert, as the runs say it was.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Owed {
    alerts: usize,
    reminders: usize,
    recoveries: usize,
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

struct Notification {
    id: i64,
    uuid: String,
    incident: i64,
    kind: String,
    recipient: String,
    subject: String,
    body: String,
    attempts: usize,
}

/// Checks everything. All deliveries must be settled, and all recipients good.
pub(super) async fn check(database: &mut SqliteConnection, mails: &[ReceivedMail]) -> Figures {
    let integrity: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut *database).await.unwrap();
    assert_eq!(integrity, "ok");
    let monitors = monitors(database).await;
    let notifications = notifications(database).await;
    let mut figures = Figures { notifications: notifications.len(), mails: mails.len(), ..Figures::default() };
    for monitor in &monitors {
        let (owed, runs) = replay(database, monitor).await;
        figures.runs += runs;
        figures.incidents += owed.len();
        check_incidents(database, monitor, &owed, &notifications).await;
    }
    let of_no_incident: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM notifications WHERE incident_id IS NULL OR incident_id NOT IN (SELECT id FROM incidents)",
    )
    .fetch_one(&mut *database)
    .await
    .unwrap();
    assert_eq!(of_no_incident, 0);
    figures.duplicates = check_mailbox(&notifications, mails);
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
        assert_eq!(row.get::<Option<String>, _>("notification_type").as_deref(), told, "{at}: who was told what");
    }
    assert_eq!(monitor.state, word(is_alert), "monitor {}: its state", monitor.id);
    assert_eq!(monitor.consecutive_ok_count, oks, "monitor {}: its oks in a row", monitor.id);
    (owed, rows.len())
}

fn word(is_alert: bool) -> &'static str {
    if is_alert { "alert" } else { "ok" }
}

/// The incidents of a monitor, and what each of its recipients has in the outbox, are exactly what is owed.
async fn check_incidents(
    database: &mut SqliteConnection,
    monitor: &Monitor,
    owed: &[Owed],
    notifications: &[Notification],
) {
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
        let mut found: BTreeMap<&str, Owed> = BTreeMap::new();
        for notification in notifications.iter().filter(|notification| notification.incident == id) {
            let told = found.entry(&notification.recipient).or_default();
            match notification.kind.as_str() {
                "alert" => told.alerts += 1,
                "reminder" => told.reminders += 1,
                "recovery" => told.recoveries += 1,
                other => panic!("notification {}: type {other}", notification.id),
            }
        }
        let wanted: BTreeMap<&str, Owed> =
            monitor.recipients.iter().map(|recipient| (recipient.as_str(), *owed)).collect();
        assert_eq!(found, wanted, "incident {id} of monitor {}", monitor.id);
    }
}

/// Each notification arrived, each mail is one, all copies are alike, none came before what it follows.
/// Returns how many mails came once more.
fn check_mailbox(notifications: &[Notification], mails: &[ReceivedMail]) -> usize {
    let mut copies: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, mail) in mails.iter().enumerate() {
        copies.entry(mail.header("Message-ID").unwrap()).or_default().push(place);
    }
    let mut duplicates = 0;
    let mut last_of_line: HashMap<(i64, &str), usize> = HashMap::new();
    for notification in notifications {
        let at = format!("notification {} ({})", notification.id, notification.kind);
        let places = copies.remove(&format!("<{}@x.test>", notification.uuid)).unwrap_or_default();
        let (Some(first), Some(last)) = (places.first(), places.last()) else { panic!("{at} never arrived") };
        for place in &places {
            let mail = &mails[*place];
            assert_eq!(mail.rcpt, [notification.recipient.as_str()], "{at}: whom it reached");
            assert_eq!(mail.subject, notification.subject, "{at}");
            assert_eq!(mail.text.as_deref().unwrap_or_default().trim(), notification.body.trim(), "{at}");
        }
        assert!(places.len() <= notification.attempts, "{at}: {} copies of {}", places.len(), notification.attempts);
        duplicates += places.len() - 1;
        let line = (notification.incident, notification.recipient.as_str());
        if let Some(before) = last_of_line.insert(line, *last) {
            assert!(before < *first, "{at} arrived before what it follows");
        }
    }
    assert!(copies.is_empty(), "mails that nothing in the database owes: {:?}", copies.keys());
    duplicates
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

async fn notifications(database: &mut SqliteConnection) -> Vec<Notification> {
    let rows = sqlx::query(
        "SELECT id, uuid, incident_id, type, recipient, subject, body, status, attempts FROM notifications ORDER BY id",
    )
    .fetch_all(database)
    .await
    .unwrap();
    rows.iter()
        .map(|row| {
            let id = row.get("id");
            assert_eq!(row.get::<String, _>("status"), "sent", "notification {id}");
            Notification {
                id,
                uuid: row.get("uuid"),
                incident: row.get("incident_id"),
                kind: row.get("type"),
                recipient: row.get("recipient"),
                subject: row.get("subject"),
                body: row.get("body"),
                attempts: usize::try_from(row.get::<i64, _>("attempts")).unwrap(),
            }
        })
        .collect()
}
