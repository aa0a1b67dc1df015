//! What every case works on: a fresh database, a store on it, a person's own connection, and a clock that stands still.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use watchbell::domain::{Cause, FinishedRun, MonitorId, MonitorRow, Policy, decide_edit, decide_run};
use watchbell::ports::{Applied, Clock, NodeIdentity, Store, StoreError, Work};
use watchbell::store::SqlStore;
use watchbell_contract::Outcome;

use crate::support::person::Person;

/// A database to test: how to make one, and how a person reaches it.
#[async_trait]
pub(crate) trait Database: Send + Sync + 'static {
    /// A fresh, migrated, empty one.
    async fn create(clock: Arc<dyn Clock>) -> Self
    where
        Self: Sized;

    /// The adapter under test.
    fn store(&self) -> &dyn Store;

    /// Statements by a person, in one transaction; the error as that person sees it.
    async fn execute(&self, sql: &str) -> Result<(), String>;

    /// What a person reads: every value as text, `None` for NULL.
    async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>>;

    /// The names of a table's columns.
    async fn columns(&self, table: &str) -> Vec<String>;

    /// How a person's own program finds it: a file, or a URL.
    fn describe(&self) -> String;

    /// An INSERT of `count` minimal monitors in one statement.
    fn many_monitors(&self, count: u32) -> String;

    /// Whether columns take values of any type that no CHECK forbids.
    fn is_loosely_typed(&self) -> bool {
        false
    }

    /// A field of a JSON column as text, as people read it in SQL.
    fn field(&self, column: &str, name: &str) -> String;

    /// A time as people read it in SQL.
    fn shown_time(&self, at: DateTime<Utc>) -> String;

    /// A statement that replaces the row with this id by a new one of the same id, as the database spells it.
    fn replace_monitor(&self, id: MonitorId, kind: &str) -> String;
}

/// A clock that tests set.
pub(crate) struct FakeClock(Mutex<DateTime<Utc>>);

impl Clock for FakeClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

pub(crate) const ANN: &str = r#"["ann@example.com"]"#;
pub(crate) const ANN_AND_BOB: &str = r#"["ann@example.com", "bob@example.com"]"#;

pub(crate) struct Bench {
    pub(crate) database: Box<dyn Database>,
    clock: Arc<FakeClock>,
    pub(crate) node: NodeIdentity,
}

impl Bench {
    pub(crate) async fn new<D: Database>() -> Self {
        let clock = Arc::new(FakeClock(Mutex::new(Utc::now().trunc_subsecs(0))));
        let node = NodeIdentity { uuid: "node-uuid".to_owned(), name: "node-name".to_owned() };
        Self { database: Box::new(D::create(clock.clone()).await), clock, node }
    }

    pub(crate) async fn close(&self) {
        self.store().close().await;
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.database.store()
    }

    /// Another node's store over the same database, on the same clock.
    pub(crate) async fn second_store(&self) -> SqlStore {
        SqlStore::open(&self.database.describe(), self.clock.clone()).await.unwrap()
    }

    /// Another person.
    pub(crate) async fn person(&self) -> Person {
        Person::connect(&self.database.describe()).await.unwrap()
    }

    /// Whether several may write at the same time.
    pub(crate) fn is_server(&self) -> bool {
        self.database.describe().contains("://")
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub(crate) fn pass(&self, span: TimeDelta) -> DateTime<Utc> {
        let mut now = self.clock.0.lock().unwrap();
        *now += span;
        *now
    }

    pub(crate) fn pass_minutes(&self, minutes: i64) -> DateTime<Utc> {
        self.pass(TimeDelta::minutes(minutes))
    }

    /// A person's statement that must work.
    pub(crate) async fn sql(&self, sql: &str) {
        self.database.execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// A person's statement that must be refused, with what it says.
    pub(crate) async fn refused(&self, sql: &str) -> String {
        self.database.execute(sql).await.expect_err(sql)
    }

    /// A person's statement that must be refused: by a CHECK whose name tells what must hold, or by the column's type.
    pub(crate) async fn refused_for(&self, sql: &str, word: &str) {
        let refused = self.refused(sql).await;
        let by_type =
            ["invalid input syntax", "is of type", "out of range", "Incorrect ", "cannot be null", "too long"];
        let is_by_type = !self.database.is_loosely_typed() && by_type.iter().any(|text| refused.contains(text));
        assert!(refused.contains(word) || is_by_type, "{sql}: {refused}");
    }

    /// A person's statement that must be refused since what it writes is there already.
    pub(crate) async fn refused_twice(&self, sql: &str) {
        let refused = self.refused(sql).await.to_lowercase();
        assert!(["unique", "duplicate"].iter().any(|word| refused.contains(word)), "{sql}: {refused}");
    }

    /// Rows as text: values joined by `|`, NULL as `-`.
    pub(crate) async fn read(&self, sql: &str) -> Vec<String> {
        let rows = self.database.rows(sql).await;
        let line = |row: Vec<Option<String>>| row.into_iter().map(|v| v.unwrap_or("-".to_owned())).collect::<Vec<_>>();
        rows.into_iter().map(|row| line(row).join("|")).collect()
    }

    /// The single value of the single row.
    pub(crate) async fn value(&self, sql: &str) -> String {
        let mut rows = self.read(sql).await;
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        rows.remove(0)
    }

    /// Registers a monitor as a person does, with these columns beside the required ones.
    pub(crate) async fn insert(&self, columns: &[(&str, &str)]) -> MonitorId {
        let mut names = "name, kind, schedule".to_owned();
        let mut values = "'Orders arrive', 'test', '* * * * *'".to_owned();
        for (name, value) in columns {
            names += &format!(", {name}");
            values += &format!(", {value}");
        }
        self.sql(&format!("INSERT INTO monitors ({names}) VALUES ({values})")).await;
        MonitorId(self.value("SELECT max(id) FROM monitors").await.parse().unwrap())
    }

    /// A monitor that tells Ann, and recovers at the first ok.
    pub(crate) async fn insert_simple(&self) -> MonitorId {
        self.insert(&[("people_to_notify", &format!("'{ANN}'")), ("required_consecutive_oks", "1")]).await
    }

    pub(crate) async fn row(&self, id: MonitorId) -> MonitorRow {
        self.store().monitor(id).await.unwrap().unwrap()
    }

    /// A run of a tick that is due now, of the row as it is now.
    pub(crate) async fn tick(&self, id: MonitorId, outcome: Outcome) -> FinishedRun {
        FinishedRun {
            monitor: Arc::new(self.row(id).await),
            cause: Cause::Schedule,
            tick: Some(self.now()),
            started_at: self.now(),
            duration: Duration::from_millis(7),
            outcome,
            config_error: None,
            next_run_at: Some(self.now() + TimeDelta::minutes(1)),
            skipped_ticks: 0,
            missed_ticks: 0,
        }
    }

    /// A run without a tick.
    pub(crate) async fn without_tick(&self, id: MonitorId, cause: Cause, outcome: Outcome) -> FinishedRun {
        FinishedRun { cause, tick: None, ..self.tick(id, outcome).await }
    }

    pub(crate) async fn try_apply(&self, work: &[Work]) -> Result<Vec<Applied>, StoreError> {
        self.try_apply_by(self.store(), work).await
    }

    /// As [`Bench::try_apply`], by another store.
    pub(crate) async fn try_apply_by(&self, store: &dyn Store, work: &[Work]) -> Result<Vec<Applied>, StoreError> {
        let policy = Policy { admins: vec!["admin@example.com".to_owned()], default_zone: chrono_tz::UTC };
        let decide = move |work: &Work, current: &_| match work {
            Work::Run(run) => decide_run(run, current, &policy),
            Work::Edit { config_error, next_run_at, .. } => {
                decide_edit(current, config_error.as_deref(), *next_run_at, &policy)
            }
        };
        store.apply(&self.node, work, &decide).await
    }

    pub(crate) async fn apply(&self, run: FinishedRun) -> Applied {
        self.try_apply(&[Work::Run(Box::new(run))]).await.unwrap().remove(0)
    }

    /// Applies what an edit owes.
    pub(crate) async fn settle_edit(&self, monitor: MonitorId) -> Applied {
        let work = Work::Edit { monitor, config_error: None, next_run_at: None };
        self.try_apply(&[work]).await.unwrap().remove(0)
    }

    /// A minute passes, and a tick finds X failing.
    pub(crate) async fn fail(&self, id: MonitorId) -> Applied {
        self.pass_minutes(1);
        let run = self.tick(id, Outcome::failed("broken")).await;
        self.apply(run).await
    }

    /// A minute passes, and a tick finds X healthy.
    pub(crate) async fn succeed(&self, id: MonitorId) -> Applied {
        self.pass_minutes(1);
        let run = self.tick(id, Outcome::ok("fine")).await;
        self.apply(run).await
    }

    /// A critical message of no monitor, queued now; its id.
    pub(crate) async fn queue(&self, kind: &str, recipient: &str) -> i64 {
        let now = sql_time(self.now());
        self.sql(&format!(
            "INSERT INTO notifications (type, severity, recipient, subject, body, created_at, next_attempt_at) \
             VALUES ('{kind}', 'critical', '{recipient}', 's', 'b', {now}, {now})"
        ))
        .await;
        self.value("SELECT max(id) FROM notifications").await.parse().unwrap()
    }

    /// What was queued, in order.
    pub(crate) async fn queued(&self) -> Vec<String> {
        self.read("SELECT type, recipient FROM notifications ORDER BY id").await
    }
}

/// A time as SQL text that every database takes.
pub(crate) fn sql_time(at: DateTime<Utc>) -> String {
    at.format("'%Y-%m-%d %H:%M:%S'").to_string()
}
