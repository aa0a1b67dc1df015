//! What a script plays in: a database, a clock that only the script moves, and a person with SQL.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;
use tempfile::TempDir;
use watchbell::domain::schedule::Schedule;
use watchbell::domain::{
    Cause, FinishedRun, MonitorId, MonitorRow, Policy, Recipients, Settlement, decide_edit, decide_run,
};
use watchbell::ports::{Applied, Clock, NodeIdentity, Store, Work};
use watchbell::store::SqlStore;

use super::found::shown;
use super::script::{Answer, Step, answer, cause, pairs, quoted, word};
use crate::support::mariadb::MariaDb;
use crate::support::outbox;
use crate::support::person::{Person, Written};
use crate::support::postgres::Postgres;

/// From the time of a run's line to its start: ticks and starts must not be mixed up.
const LATENESS: TimeDelta = TimeDelta::milliseconds(40);
const DURATION: Duration = Duration::from_millis(120);

struct ScriptClock(Mutex<DateTime<Utc>>);

impl Clock for ScriptClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

/// A run between its two ends.
struct Begun {
    row: Arc<MonitorRow>,
    cause: Cause,
    tick: Option<DateTime<Utc>>,
    started_at: DateTime<Utc>,
}

/// What a script is played on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Played {
    Sqlite,
    Postgres,
    MariaDb,
}

impl Played {
    /// As scripts name it.
    fn word(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::MariaDb => "mariadb",
        }
    }
}

pub(super) struct World {
    played: Played,
    /// Set in a case that is not for this database.
    is_skipping: bool,
    url: String,
    _folder: TempDir,
    clock: Arc<ScriptClock>,
    pub(super) store: SqlStore,
    pub(super) person: Person,
    policy: Policy,
    pub(super) monitor: MonitorId,
    begun: Option<Begun>,
    /// The newest notification that a step has reported.
    pub(super) reported: i64,
}

impl World {
    pub(super) async fn new(played: Played) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = match played {
            Played::Sqlite => format!("sqlite://{}", folder.path().join("watchbell.db").display()),
            Played::Postgres => Postgres::shared().await.fresh_database().await,
            Played::MariaDb => MariaDb::shared().await.fresh_database().await,
        };
        let clock = Arc::new(ScriptClock(Mutex::new(start())));
        let (store, person) = open(&url, clock.clone()).await;
        Self {
            played,
            is_skipping: false,
            url,
            _folder: folder,
            clock,
            store,
            person,
            policy: no_policy(),
            monitor: MonitorId(0),
            begun: None,
            reported: 0,
        }
    }

    /// An empty database, at the start. On a server the tables are emptied: to make a database and its tables takes
    /// longer than to play a case.
    async fn begin_anew(&mut self) -> Result<()> {
        if self.played == Played::Sqlite {
            std::mem::replace(self, Self::new(self.played).await).close().await;
            return Ok(());
        }
        self.person.empty_all_tables().await?;
        *self.clock.0.lock().unwrap() = start();
        self.policy = no_policy();
        (self.monitor, self.begun, self.reported, self.is_skipping) = (MonitorId(0), None, 0, false);
        Ok(())
    }

    /// Ends the connections.
    pub(super) async fn close(self) {
        self.person.close().await.unwrap();
        self.store.close().await;
    }

    /// Takes one step; returns what it did, in the words of the lines below it.
    pub(super) async fn take(&mut self, step: &Step) -> Result<Vec<String>> {
        let (first, rest) = word(&step.text);
        if self.is_skipping && first != "case" {
            return Ok(step.expected.clone());
        }
        match first {
            "case" => self.begin_anew().await.map(|()| Vec::new()),
            "only" => {
                let named = rest.strip_prefix("on ").context("write `only on DATABASE, DATABASE`")?;
                let known = [Played::Sqlite, Played::Postgres, Played::MariaDb].map(Played::word);
                let mut is_named = false;
                for name in named.split(", ") {
                    ensure!(known.contains(&name), "`{name}` is no database that scripts are played on");
                    is_named |= name == self.played.word();
                }
                self.is_skipping = !is_named;
                Ok(Vec::new())
            }
            "admins" => {
                self.policy.admins = serde_json::from_str(rest)?;
                Ok(Vec::new())
            }
            "zone" => {
                self.policy.default_zone = rest.parse().map_err(|error| anyhow!("{error}"))?;
                Ok(Vec::new())
            }
            "monitor" => self.register(rest).await.map(|()| Vec::new()),
            "use" => {
                let name = self.person.quoted(rest);
                let id = self.person.value(&format!("SELECT id FROM monitors WHERE name = {name}")).await?;
                self.monitor = MonitorId(id.parse()?);
                Ok(Vec::new())
            }
            "at" => self.go_on_to(rest).map(|()| Vec::new()),
            "clock" => {
                let time = rest.strip_prefix("set to ").context("write `clock set to TIME`")?;
                *self.clock.0.lock().unwrap() = self.time(time)?;
                Ok(Vec::new())
            }
            "restart" => {
                self.store.close().await;
                (self.store, self.person) = open(&self.url, self.clock.clone()).await;
                Ok(Vec::new())
            }
            _ => self.act(step).await,
        }
    }

    /// The steps that have a time.
    async fn act(&mut self, step: &Step) -> Result<Vec<String>> {
        let (time, text) = word(&step.text);
        self.go_on_to(time)?;
        match word(text) {
            ("sql", sql) => return self.sql(sql).await,
            ("ask", select) => return self.ask(select).await,
            ("mark", rest) => return self.mark(rest).await,
            ("begin", rest) => {
                let (begun, rest) = self.begin(rest).await?;
                ensure!(rest.is_empty(), "`{rest}` belongs to `finish`");
                self.begun = Some(begun);
                return Ok(Vec::new());
            }
            _ => {}
        }
        let mut discarded = None;
        for (at, part) in text.split(" ; ").enumerate() {
            let mut part = part.trim();
            if at > 0 {
                let (time, rest) = word(part);
                self.go_on_to(time)?;
                part = rest;
            }
            let applied = self.work(part).await?;
            if let Applied::Discarded(reason) = applied {
                discarded = Some(format!("discarded ({reason:?}), "));
            } else {
                self.check_that_state_and_incident_agree().await?;
            }
        }
        let mut found = vec![format!("-> {}{}", discarded.unwrap_or_default(), self.state_and_told().await?)];
        self.add_messages(step, &mut found).await?;
        self.reported = self.newest_notification().await?;
        Ok(found)
    }

    /// A run or an edit, decided and written.
    async fn work(&mut self, text: &str) -> Result<Applied> {
        let (verb, rest) = word(text);
        let work = match verb {
            "edit" => self.edit(rest).await?,
            "finish" => {
                let begun = self.begun.take().context("no run was begun")?;
                let duration = (self.clock.now() - begun.started_at).to_std()?;
                Work::Run(Box::new(self.finished(begun, answer(rest)?, duration)))
            }
            _ => {
                let (begun, rest) = self.begin(text).await?;
                *self.clock.0.lock().unwrap() = begun.started_at + DURATION;
                Work::Run(Box::new(self.finished(begun, answer(rest)?, DURATION)))
            }
        };
        let policy = self.policy.clone();
        let decide = move |work: &Work, current: &_| match work {
            Work::Run(run) => decide_run(run, current, &policy),
            Work::Edit { config_error, next_run_at, .. } => {
                decide_edit(current, config_error.as_deref(), *next_run_at, &policy)
            }
        };
        let node = NodeIdentity { uuid: "n".to_owned(), name: "n".to_owned() };
        self.store.apply(&node, &[work], &decide).await?.pop().context("one piece of work has one answer")
    }

    async fn begin<'t>(&self, text: &'t str) -> Result<(Begun, &'t str)> {
        let (verb, mut rest) = word(text);
        let cause = cause(verb).with_context(|| format!("`{verb}` is nothing that a script can say"))?;
        let now = self.clock.now();
        let mut tick = matches!(cause, Cause::Schedule | Cause::CatchUp).then_some(now);
        if let Some(after) = rest.strip_prefix("of ") {
            let (time, after) = word(after);
            tick = Some(self.time(time)?);
            rest = after;
        }
        let row = self.store.monitor(self.monitor).await?.context("the row is gone, so that no run begins")?;
        Ok((Begun { row: Arc::new(row), cause, tick, started_at: now + LATENESS }, rest))
    }

    fn finished(&self, begun: Begun, answer: Answer, duration: Duration) -> FinishedRun {
        let soft = soft_faults(&begun.row);
        FinishedRun {
            next_run_at: self.next_run_at(&begun.row),
            config_error: answer.config_error.or(soft),
            monitor: begun.row,
            cause: begun.cause,
            tick: begun.tick,
            started_at: begun.started_at,
            duration,
            outcome: answer.outcome,
            skipped_ticks: 0,
            missed_ticks: 0,
        }
    }

    /// What a node sends when it has seen an edit.
    async fn edit(&self, text: &str) -> Result<Work> {
        let row = self.store.monitor(self.monitor).await?;
        let mut config_error = row.as_ref().and_then(soft_faults);
        if let Some(error) = text.strip_prefix("error ") {
            config_error = Some(quoted(error)?.0);
        }
        let next_run_at = row.as_ref().and_then(|row| self.next_run_at(row));
        Ok(Work::Edit { monitor: self.monitor, config_error, next_run_at })
    }

    fn next_run_at(&self, row: &MonitorRow) -> Option<DateTime<Utc>> {
        let zone = row.timezone.as_deref().unwrap_or(self.policy.default_zone.name());
        Schedule::parse(&row.schedule, zone.parse().ok()?).ok()?.next_after(self.clock.now())
    }

    // What a person does.

    async fn register(&mut self, text: &str) -> Result<()> {
        let (name, options) = text.split_once(':').context("write `monitor NAME: ...`")?;
        let mut columns = vec!["name", "kind", "schedule"];
        let mut values = vec![Some(name), Some("sql"), Some("* * * * *")];
        for (key, value) in pairs(options)? {
            columns.push(match key {
                "people" => "people_to_notify",
                "reminder" => "reminder_frequency_minutes",
                "oks" => "required_consecutive_oks",
                "alerts" => "required_consecutive_alerts",
                "severity" | "timezone" => key,
                other => bail!("`{other}` is nothing that a monitor of a script has"),
            });
            values.push((value != "null").then_some(value));
        }
        let values: Vec<String> =
            values.iter().map(|value| value.map_or("NULL".to_owned(), |value| self.person.quoted(value))).collect();
        let insert = format!("INSERT INTO monitors ({}) VALUES ({})", columns.join(", "), values.join(", "));
        if let Written::Refused(reason) = self.person.write(&insert).await? {
            bail!("{insert}: {reason}");
        }
        self.monitor = MonitorId(self.person.value("SELECT max(id) FROM monitors").await?.parse()?);
        Ok(())
    }

    async fn sql(&mut self, sql: &str) -> Result<Vec<String>> {
        match self.person.write(&self.with_times(sql)?).await? {
            Written::Rows(0) => bail!("it met no row"),
            Written::Rows(_) => Ok(Vec::new()),
            // Each database has its own words, which the conformance suite reads.
            Written::Refused(_) => Ok(vec!["-> refused".to_owned()]),
        }
    }

    async fn ask(&mut self, select: &str) -> Result<Vec<String>> {
        let rows = self.person.read(&self.with_times(select)?).await?;
        if rows.is_empty() {
            return Ok(vec!["-> (no row)".to_owned()]);
        }
        Ok(rows.into_iter().map(|row| format!("-> {}", shown(row))).collect())
    }

    /// `sent` and `failed` go through the outbox as a dispatcher's do, `held` and `withdrawn` are set.
    async fn mark(&mut self, text: &str) -> Result<Vec<String>> {
        let (status, rest) = word(text);
        if status == "held" || status == "withdrawn" {
            let to = rest.strip_prefix("to ").map_or(String::new(), |to| format!(" AND recipient = '{to}'"));
            let sql = format!("UPDATE notifications SET status = '{status}' WHERE status = 'pending'{to}");
            return self.sql(&sql).await;
        }
        let now = self.clock.now();
        loop {
            let claimed = outbox::claim(&self.store, "script", now, now + TimeDelta::minutes(1), 100).await?;
            if claimed.is_empty() {
                return Ok(Vec::new());
            }
            let settlement = match status {
                "sent" => Settlement::Sent { at: now, answer: String::new(), external_id: None },
                "failed" => Settlement::Failed { error: "no such mailbox".to_owned() },
                other => bail!("`{other}` is no status that a script can set"),
            };
            let settled: Vec<_> = claimed.iter().map(|row| (row.id, settlement.clone())).collect();
            self.store.settle_notifications("script", &settled).await?;
        }
    }

    // The clock.

    fn go_on_to(&self, text: &str) -> Result<()> {
        let time = self.time(text)?;
        let mut clock = self.clock.0.lock().unwrap();
        // Several lines may happen within one second; the milliseconds of runs are not written in scripts.
        ensure!(time >= *clock - TimeDelta::seconds(1), "the clock shows {clock}; to set it back write `clock set to`");
        *clock = time;
        Ok(())
    }

    /// `12:00`, `12:00:30`, or one of these after a date.
    fn time(&self, text: &str) -> Result<DateTime<Utc>> {
        let (date, time) = match text.split_once(' ') {
            Some((date, time)) => (date.parse::<NaiveDate>().with_context(|| format!("`{date}` is no date"))?, time),
            None => (self.clock.now().date_naive(), text),
        };
        let with_seconds = if time.matches(':').count() == 1 { format!("{time}:00") } else { time.to_owned() };
        let time =
            NaiveTime::parse_from_str(&with_seconds, "%H:%M:%S").with_context(|| format!("`{text}` is no time"))?;
        Ok(date.and_time(time).and_utc())
    }

    /// `@now` and `@13:00` become texts in the database's spelling, `\r\n` a line break.
    fn with_times(&self, sql: &str) -> Result<String> {
        let sql = sql.replace("\\r\\n", "\r\n");
        let mut parts = sql.split('@');
        let mut whole = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != ':').unwrap_or(part.len());
            let (name, rest) = part.split_at(end);
            let is_time = name == "now" || name.starts_with(|c: char| c.is_ascii_digit());
            if !is_time {
                // Part of an address.
                whole.push_str(&format!("@{part}"));
                continue;
            }
            let time = if name == "now" { self.clock.now() } else { self.time(name)? };
            whole.push_str(&format!("{}{rest}", self.person.time(time)));
        }
        Ok(whole)
    }
}

fn start() -> DateTime<Utc> {
    NaiveDate::from_ymd_opt(2026, 11, 21).unwrap().and_hms_opt(12, 0, 0).unwrap().and_utc()
}

fn no_policy() -> Policy {
    Policy { admins: Vec::new(), default_zone: Tz::UTC }
}

async fn open(url: &str, clock: Arc<ScriptClock>) -> (SqlStore, Person) {
    let store = SqlStore::open(url, clock).await.unwrap();
    (store, Person::connect(url).await.unwrap())
}

fn soft_faults(row: &MonitorRow) -> Option<String> {
    let faults = Recipients::read(row.people_to_notify.as_deref(), &[], &Default::default()).faults;
    (!faults.is_empty()).then(|| faults.join("; "))
}
