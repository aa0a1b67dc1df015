//! What the database says happened, read once at the end. All times are in ms since 1970.

use super::database::Database;

/// A row of `monitor_runs`.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) id: i64,
    pub(crate) monitor: i64,
    pub(crate) cause: String,
    pub(crate) tick_at: Option<i64>,
    pub(crate) started_at: i64,
    pub(crate) duration: i64,
    pub(crate) is_ok: bool,
    pub(crate) state_before: String,
    pub(crate) state_after: String,
    pub(crate) told: Option<String>,
    pub(crate) node: String,
}

/// A row of `monitors`.
#[derive(Debug, Clone)]
pub(crate) struct Monitor {
    pub(crate) id: i64,
    pub(crate) name: String,
    /// Between two of its ticks, which are multiples of it.
    pub(crate) period: i64,
    pub(crate) state: String,
    pub(crate) oks: i64,
    pub(crate) required_oks: i64,
    pub(crate) recipients: Vec<String>,
    /// Ticks that came while its run was still going on.
    pub(crate) skipped: i64,
    /// Ticks that nobody ran in time.
    pub(crate) missed: i64,
}

/// A row of `incidents`.
#[derive(Debug, Clone)]
pub(crate) struct Incident {
    pub(crate) id: i64,
    pub(crate) monitor: i64,
    pub(crate) is_over: bool,
}

/// A row of `notifications`.
#[derive(Debug, Clone)]
pub(crate) struct Notification {
    pub(crate) id: i64,
    pub(crate) uuid: String,
    pub(crate) incident: Option<i64>,
    pub(crate) kind: String,
    pub(crate) recipient: String,
    pub(crate) status: String,
    pub(crate) merged_into: Option<i64>,
}

/// See the module.
pub(crate) struct Record {
    pub(crate) monitors: Vec<Monitor>,
    /// By id: of one monitor, in the order in which they were applied.
    pub(crate) runs: Vec<Run>,
    pub(crate) incidents: Vec<Incident>,
    pub(crate) notifications: Vec<Notification>,
}

impl Record {
    pub(crate) fn read(database: &Database) -> Self {
        Self {
            monitors: monitors(database),
            runs: runs(database),
            incidents: incidents(database),
            notifications: notifications(database),
        }
    }
}

/// A row, column by column.
struct Cells(std::vec::IntoIter<Option<String>>);

impl Cells {
    fn new(row: Vec<Option<String>>) -> Self {
        Self(row.into_iter())
    }

    fn maybe(&mut self) -> Option<String> {
        self.0.next().unwrap()
    }

    fn text(&mut self) -> String {
        self.maybe().unwrap()
    }

    fn maybe_number(&mut self) -> Option<i64> {
        self.maybe().map(|text| text.parse().unwrap())
    }

    fn number(&mut self) -> i64 {
        self.maybe_number().unwrap()
    }
}

fn monitors(database: &Database) -> Vec<Monitor> {
    let rows = database.rows(
        "SELECT id, name, schedule, state, consecutive_ok_count, required_consecutive_oks, people_to_notify, \
         skipped_tick_count, missed_tick_count FROM monitors ORDER BY id",
    );
    let monitor = |row| {
        let mut cells = Cells::new(row);
        Monitor {
            id: cells.number(),
            name: cells.text(),
            period: period(&cells.text()),
            state: cells.text(),
            oks: cells.number(),
            required_oks: cells.number(),
            recipients: serde_json::from_str(&cells.text()).unwrap(),
            skipped: cells.number(),
            missed: cells.number(),
        }
    };
    rows.into_iter().map(monitor).collect()
}

/// Of the schedules that these tests use, by hand: no code of the product says what is expected of it.
fn period(schedule: &str) -> i64 {
    match schedule {
        "@every 1s" | "* * * * * *" => 1_000,
        "@every 2s" | "*/2 * * * * *" => 2_000,
        "@every 5s" | "*/5 * * * * *" => 5_000,
        "* * * * *" => 60_000,
        other => panic!("what are the ticks of `{other}`?"),
    }
}

fn runs(database: &Database) -> Vec<Run> {
    let rows = database.rows(&format!(
        "SELECT id, monitor_id, cause, {}, {}, duration_ms, is_ok, state_before, state_after, notification_type, node \
         FROM monitor_runs ORDER BY id",
        database.millis("tick_at"),
        database.millis("started_at")
    ));
    let run = |row| {
        let mut cells = Cells::new(row);
        Run {
            id: cells.number(),
            monitor: cells.number(),
            cause: cells.text(),
            tick_at: cells.maybe_number(),
            started_at: cells.number(),
            duration: cells.number(),
            is_ok: cells.number() == 1,
            state_before: cells.text(),
            state_after: cells.text(),
            told: cells.maybe(),
            node: cells.text(),
        }
    };
    rows.into_iter().map(run).collect()
}

fn incidents(database: &Database) -> Vec<Incident> {
    let rows = database
        .rows("SELECT id, monitor_id, CASE WHEN recovered_at IS NULL THEN 0 ELSE 1 END FROM incidents ORDER BY id");
    let incident = |row| {
        let mut cells = Cells::new(row);
        Incident { id: cells.number(), monitor: cells.number(), is_over: cells.number() == 1 }
    };
    rows.into_iter().map(incident).collect()
}

fn notifications(database: &Database) -> Vec<Notification> {
    let rows = database
        .rows("SELECT id, uuid, incident_id, type, recipient, status, merged_into FROM notifications ORDER BY id");
    let notification = |row| {
        let mut cells = Cells::new(row);
        Notification {
            id: cells.number(),
            uuid: cells.text(),
            incident: cells.maybe_number(),
            kind: cells.text(),
            recipient: cells.text(),
            status: cells.text(),
            merged_into: cells.maybe_number(),
        }
    };
    rows.into_iter().map(notification).collect()
}
