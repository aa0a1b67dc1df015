//! The kind as a whole, on SQLite files. PostgreSQL and MariaDB have real servers in `monitors/tests/sql_servers.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};
use tempfile::TempDir;
use watchbell_contract::{
    CheckContext, ConfigReader, Monitor, NoSecrets, Outcome, Secret, SecretError, SecretReference, Secrets,
    async_trait, testing,
};

use super::{Sql, connection_warnings};
use crate::{Connection, Settings};

fn connection(url: &str) -> Connection {
    Connection { url: Secret::parse(url, Arc::new(NoSecrets)).unwrap(), allow_own_database: false }
}

/// A SQLite file with one connection to it, named `default`.
struct Shop {
    folder: TempDir,
    sql: Sql,
}

impl Shop {
    async fn with(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.db");
        let mut database = SqliteConnectOptions::new().filename(&file).create_if_missing(true).connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(script.to_owned())).execute(&mut database).await.unwrap();
        let connections = [("default".to_owned(), connection(&format!("sqlite://{}", file.display())))].into();
        Self { folder, sql: Sql::new(Arc::new(Settings { connections, ..Settings::default() })) }
    }

    async fn ask(&self, config: Value) -> Outcome {
        ask(&self.sql, &config, &context()).await.unwrap_or_else(Outcome::failed)
    }
}

fn context() -> CheckContext {
    CheckContext {
        tick: "2026-11-21T12:00:00Z".parse().unwrap(),
        since: "2026-11-21T11:55:00Z".parse().unwrap(),
        timeout: Duration::from_secs(10),
    }
}

fn faults(sql: &Sql, config: &Value) -> String {
    let config = config.as_object().unwrap();
    sql.prepare(ConfigReader::without_secrets(sql.manifest(), config)).err().map(|f| f.to_string()).unwrap_or_default()
}

async fn ask(sql: &Sql, config: &Value, context: &CheckContext) -> Result<Outcome, String> {
    let config = config.as_object().unwrap();
    let check = sql.prepare(ConfigReader::without_secrets(sql.manifest(), config)).map_err(|f| f.to_string())?;
    check.check(context).await.map_err(|error| format!("{error:#}"))
}

#[tokio::test]
async fn the_kind_holds_the_contract() {
    testing::exercise(&Sql::new(Arc::default())).await;
    let shop =
        Shop::with("create table purchase_orders (received_at text); create table imports (finished_at text)").await;
    testing::exercise(&shop.sql).await;
}

#[tokio::test]
async fn purchase_orders_arrive_or_do_not() {
    let shop = Shop::with(
        "create table purchase_orders (received_at text);
         insert into purchase_orders values ('2026-11-21T11:54:59.999Z')",
    )
    .await;
    let config = json!({"query": "select count(*) from purchase_orders where received_at > :since", "min": 1});
    let outcome = shop.ask(config.clone()).await;
    assert!(!outcome.is_ok);
    assert_eq!(
        outcome.message,
        "count is 0, expected at least 1 (since 2026-11-21 11:55 UTC); statement: select count(*) from purchase_orders where received_at > :since"
    );
    let shop = Shop::with(
        "create table purchase_orders (received_at text);
         insert into purchase_orders values ('2026-11-21T11:55:00.001Z')",
    )
    .await;
    let outcome = shop.ask(config).await;
    assert_eq!((outcome.is_ok, outcome.message.as_str()), (true, "count is 1 (since 2026-11-21 11:55 UTC)"));
    assert_eq!(outcome.metrics.get("value"), Some(&1.0));
}

#[tokio::test]
async fn the_instants_are_bound_as_text() {
    let shop = Shop::with("create table t (a int)").await;
    let query = "select :tick || ' ' || :since || ' ' || ':tick' || typeof(:since) -- :tick";
    let expected = "2026-11-21T12:00:00.000Z 2026-11-21T11:55:00.000Z :ticktext";
    let outcome = shop.ask(json!({"query": query, "equals": expected})).await;
    assert!(outcome.is_ok, "{}", outcome.message);
}

#[tokio::test]
async fn values_of_each_type_are_judged() {
    let shop = Shop::with(
        "create table t (i integer, r real, s text, n text, b blob, d datetime, z boolean);
         insert into t values (3, 2.5, 'up', null, x'00ff', '2026-11-21 11:00:00', 1)",
    )
    .await;
    for (config, is_ok, part) in [
        (json!({"query": "select i from t", "equals": 3}), true, "i is 3"),
        (json!({"query": "select r from t", "max": 2.4}), false, "r is 2.5, expected at most 2.4"),
        (json!({"query": "select * from t", "column": "s", "equals": "up"}), true, "s is up"),
        (json!({"query": "select n from t", "min": 1}), false, "n is NULL, expected at least 1"),
        (json!({"query": "select b from t", "min": 1}), false, "b is (blob: not read"),
        (json!({"query": "select d from t", "max_age_minutes": 60}), true, "60 min old"),
        (json!({"query": "select d from t", "max_age_minutes": 59}), false, "expected at most 59 min old"),
        (
            json!({"query": "select n as last from t", "max_age_minutes": 59}),
            false,
            "last is NULL: there is no such time",
        ),
        (json!({"query": "select z from t", "equals": true}), true, "z is 1"),
        (json!({"query": "select * from t where i > 5", "max_rows": 0}), true, "0 rows"),
        (json!({"query": "select * from t", "max_rows": 0}), false, "1 row, expected at most 0"),
        (json!({"query": "select i from t where i > 5", "min": 1}), false, "gave no row"),
        (
            json!({"query": "select count(*) from absent", "min": 1}),
            false,
            "connection `default`: the statement failed: no such table: absent",
        ),
        (json!({"query": "show tables", "min": 1}), false, "begins with `show` is refused"),
    ] {
        let outcome = shop.ask(config.clone()).await;
        assert!(outcome.is_ok == is_ok && outcome.message.contains(part), "{config}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_template_makes_the_message() {
    let shop = Shop::with("create table v (rule text, n int); insert into v values ('late', 4), ('lost', 2)").await;
    let config = |message: &str| json!({"query": "select rule, n from v where :since < :tick order by n desc", "max_rows": 1, "message": message});
    let message = "{{ row_count }} rules since {{ since }}, top: {% for row in rows %}{{ row.rule }} ({{ row.n }}){% if not loop.last %}, {% endif %}{% endfor %}";
    let outcome = shop.ask(config(message)).await;
    assert_eq!(
        (outcome.is_ok, outcome.message.as_str()),
        (false, "2 rules since 2026-11-21 11:55 UTC, top: late (4), lost (2)")
    );
    let outcome = shop.ask(config("{{ rows[0].absent }}")).await;
    assert!(outcome.message.starts_with("the message template fails: undefined value"), "{}", outcome.message);
    assert!(outcome.message.contains("2 rows, expected at most 1"), "{}", outcome.message);
}

#[tokio::test]
async fn faults_of_a_row_are_told_before_it_is_asked() {
    let shop = Shop::with("create table t (a int)").await;
    for (config, part) in [
        (
            json!({"query": "select 1"}),
            "config.min: nothing says when the answer is ok (hint: for example {\"min\": 1}",
        ),
        (json!({"query": "delete from t", "min": 1}), "config.query: a statement that begins with `delete` is refused"),
        (json!({"query": "select 1; select 2", "min": 1}), "more than one statement"),
        (json!({"query": "select 1", "min": 2, "max": 1}), "no value is ok"),
        (json!({"query": "select 1", "min_rows": 2, "max_rows": 1}), "no number of rows is ok"),
        (json!({"query": "select 1", "min_rows": 2000}), "from 0 to 1000"),
        (json!({"query": "select 1", "min_rows": 2, "column": "a"}), "has no effect"),
        (json!({"query": "select 1", "min": 1, "message": "{{ value"}), "config.message: the template"),
        (
            json!({"query": "select 1", "min": 1, "connection": "shp"}),
            "there is no connection `shp` in the configuration (hint: configured are `default`)",
        ),
        (json!({"query": "select 1", "equals": [1]}), "expected a number, a text, true or false"),
        (json!({"query": "select :now", "min": 1}), "`:now`; there are `:tick` and `:since`"),
    ] {
        let text = faults(&shop.sql, &config);
        assert!(text.contains(part), "{config}: {text}");
    }
    let bare = Sql::new(Arc::default());
    let error = ask(&bare, &json!({"query": "select 1", "min": 1}), &context()).await.unwrap_err();
    assert!(error.contains("there is no connection `default`") && error.contains("[connections.default]"), "{error}");
}

#[tokio::test]
async fn a_statement_that_runs_for_ever_is_ended() {
    const ENDLESS: &str = "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c";
    let shop = Shop::with("create table t (a int)").await;
    let config = json!({"query": ENDLESS, "min": 1});
    let short = CheckContext { timeout: Duration::from_millis(400), ..context() };
    let begin = Instant::now();
    let error = ask(&shop.sql, &config, &short).await.unwrap_err();
    assert!(error.contains("still running near the time-out of 0.4 s and was stopped"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_statement_ends_when_its_check_is_dropped() {
    const ENDLESS: &str = "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c";
    /// SQLite gives its threads this name.
    fn threads() -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.filter(|name| name.starts_with("wb-dropped")).count()
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    SqliteConnectOptions::new().filename(&file).create_if_missing(true).connect().await.unwrap();
    let options = SqliteConnectOptions::new().filename(&file).thread_name(|_| "wb-dropped".to_owned());
    let statement = super::Statement::read(ENDLESS, super::Dialect::Sqlite, None).unwrap();
    let context = CheckContext { timeout: Duration::from_secs(600), ..context() };
    let task = tokio::spawn(async move {
        super::sqlite::ask(&options, &statement, &context, super::connect::Deadlines::of(context.timeout))
            .await
            .map(|_| ())
    });
    let begin = Instant::now();
    while threads() == 0 {
        assert!(begin.elapsed() < Duration::from_secs(10), "the statement does not begin");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Long enough for it to be inside the statement.
    tokio::time::sleep(Duration::from_millis(200)).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    let begin = Instant::now();
    while threads() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(10), "the statement still runs");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_file_is_never_made_nor_written() {
    let shop = Shop::with("create table t (a int)").await;
    let absent = shop.folder.path().join("absent.db");
    let connections = [("default".to_owned(), connection(&format!("sqlite://{}?mode=rwc", absent.display())))].into();
    let sql = Sql::new(Arc::new(Settings { connections, ..Settings::default() }));
    let error = ask(&sql, &json!({"query": "select 1", "min": 1}), &context()).await.unwrap_err();
    assert!(error.contains("connection `default` (the SQLite file): connecting failed: unable to open"), "{error}");
    assert!(!absent.exists());

    // Past the guard, the session itself refuses.
    let options = format!("sqlite://{}", shop.folder.path().join("shop.db").display()).parse().unwrap();
    for write in [
        "insert into t values (1)",
        "create table u (a int)",
        "create temp table u (a int)",
        "attach ':memory:' as m; create table m.u (a int)",
        "pragma query_only = off; insert into t values (1)",
    ] {
        let statement = super::Statement { sql: write.into(), parameters: Vec::new() };
        let context = context();
        let asked =
            super::sqlite::ask(&options, &statement, &context, super::connect::Deadlines::of(context.timeout)).await;
        assert!(asked.is_err(), "{write}");
    }
}

#[tokio::test]
async fn a_file_that_another_process_writes_is_read() {
    let shop = Shop::with("pragma journal_mode = wal; create table t (a int)").await;
    let file = shop.folder.path().join("shop.db");
    let mut writer = SqliteConnectOptions::new().filename(&file).connect().await.unwrap();
    sqlx::raw_sql("insert into t values (1); begin immediate; insert into t values (2)")
        .execute(&mut writer)
        .await
        .unwrap();
    let outcome = shop.ask(json!({"query": "select count(*) from t", "equals": 1})).await;
    assert!(outcome.is_ok, "{}", outcome.message);
}

#[tokio::test]
async fn the_own_database_is_asked_only_where_allowed() {
    let shop = Shop::with("create table monitors (a int)").await;
    let url = format!("sqlite://{}", shop.folder.path().join("shop.db").display());
    let sql = |allowed| {
        let own = Connection { allow_own_database: allowed, ..connection(&format!("{url}?mode=ro")) };
        let connections = [("default".to_owned(), own)].into();
        Sql::new(Arc::new(Settings { connections, own_database_url: Some(url.clone()), ..Settings::default() }))
    };
    let config = json!({"query": "select count(*) from monitors", "max": 0});
    let error = ask(&sql(false), &config, &context()).await.unwrap_err();
    assert!(error.contains("Watchbell's own database") && error.contains("allow_own_database = true"), "{error}");
    assert!(ask(&sql(true), &config, &context()).await.unwrap().is_ok);
}

/// Knows one secret, `env:PASSWORD`.
struct OneSecret;

const PASSWORD: &str = "hunter2/x";

#[async_trait]
impl Secrets for OneSecret {
    fn permit(&self, _reference: &SecretReference) -> Result<(), SecretError> {
        Ok(())
    }

    async fn resolve(&self, reference: &SecretReference) -> Result<String, SecretError> {
        match reference.name.as_str() {
            "PASSWORD" => Ok(PASSWORD.replace('/', "%2F")),
            _ => Err(SecretError::Unreadable { reference: reference.clone(), reason: "it is not set".into() }),
        }
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_told_without_the_password() {
    // It accepts and says nothing.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    for (url, part) in [
        (format!("postgres://u:${{env:PASSWORD}}@127.0.0.1:{port}/d"), "no answer within the time-out of 0.3 s"),
        (format!("mysql://u:${{env:PASSWORD}}@127.0.0.1:{port}/d"), "no answer within the time-out of 0.3 s"),
        ("postgres://u:${env:PASSWORD}@127.0.0.1:port/d".into(), "its URL cannot be read: it is malformed"),
        ("ftp://u:${env:PASSWORD}@127.0.0.1/d".into(), "begins with none of `sqlite://`, `postgres://`, `mysql://`"),
        ("postgres://u:${env:OTHER}@127.0.0.1/d".into(), "the secret `env:OTHER` cannot be read: it is not set"),
    ] {
        let url = Secret::parse(&url, Arc::new(OneSecret)).unwrap();
        let connections = [("default".to_owned(), Connection { url, allow_own_database: false })].into();
        let sql = Sql::new(Arc::new(Settings { connections, ..Settings::default() }));
        let short = CheckContext { timeout: Duration::from_millis(300), ..context() };
        let error = ask(&sql, &json!({"query": "select 1", "min": 1}), &short).await.unwrap_err();
        assert!(error.starts_with("connection `default`: ") && error.contains(part), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn many_rows_are_read_only_up_to_the_bound() {
    let shop = Shop::with("create table t (a int)").await;
    let query = "with recursive c(x) as (select 1 union all select x + 1 from c) select x from c";
    let outcome = shop.ask(json!({"query": query, "max_rows": 10})).await;
    assert!(outcome.message.starts_with("more than 1000 rows, expected at most 10"), "{}", outcome.message);
}

#[tokio::test]
async fn doctor_says_what_it_cannot_open_and_nothing_of_a_good_file() {
    let shop = Shop::with("create table t (a int)").await;
    let url = |name: &str| format!("sqlite://{}", shop.folder.path().join(name).display());
    assert_eq!(connection_warnings("shop", &connection(&url("shop.db"))).await, Vec::<String>::new());
    let warnings = connection_warnings("shop", &connection(&url("absent.db"))).await;
    assert!(warnings.len() == 1 && warnings[0].starts_with("connection `shop`: connecting failed"), "{warnings:?}");
}
