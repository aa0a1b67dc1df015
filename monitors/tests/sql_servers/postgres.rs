//! The kind `sql` on PostgreSQL.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{Connection, PgConnection};
use watchbell_contract::testing;
use watchbell_monitors::sql::connection_warnings;

use crate::asking::{connection, context, each_tells, kind, prepared, told};
use crate::server::{self, Server};

/// With characters that a URL must write as %XX.
const PASSWORD: &str = "s3c/ret@x";
const PASSWORD_IN_URL: &str = "s3c%2Fret%40x";

const SET_UP: &str = "
    create type mood as enum ('fine', 'bad');
    create domain positive as int check (value > 0);
    create table readings (i int, big bigint, p positive, n numeric(12, 3), r float8, s text, b boolean,
        at timestamptz, naive timestamp, d date, u uuid, j jsonb, m mood, x interval, never timestamptz, far timestamptz);
    insert into readings values (3, 9000000000, 7, 12.500, 2.5, 'up', true, '2026-11-21 20:56:00+09', '2026-11-21 11:00:00',
        '2026-11-21', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{\"a\": 1}', 'fine', '1 hour', null, 'infinity');
    create function write_it() returns int language sql as 'insert into readings (i) values (1) returning i';
    create role reader login password 's3c/ret@x';
    grant select on readings to reader;
    create role writer login password 's3c/ret@x';
    grant select, insert on readings to writer;
    create role files login password 's3c/ret@x';
    grant pg_write_server_files to files;
";

fn url(server: &Server, role: &str) -> String {
    format!("postgres://{role}:{PASSWORD_IN_URL}@127.0.0.1:{}/postgres", server.port)
}

#[tokio::test]
async fn postgres_is_asked_and_never_written() {
    let server = server::postgres(PASSWORD);
    let mut admin = PgConnection::connect(&url(&server, "postgres")).await.unwrap();
    sqlx::raw_sql(SET_UP).execute(&mut admin).await.unwrap();

    testing::exercise(&kind(&url(&server, "reader"), None)).await;
    values_are_judged(&server).await;
    the_window_is_bound(&server).await;
    writing_is_refused(&server, &mut admin).await;
    a_time_out_ends_the_statement(&server, &mut admin).await;
    a_dropped_check_ends_the_statement(&server, &mut admin).await;
    what_cannot_be_reached_is_told(&server).await;
    doctor_warns_of_rights(&server).await;
    the_own_database_is_not_asked(&server).await;
    admin.close().await.unwrap();
}

async fn values_are_judged(server: &Server) {
    let query = |columns: &str| format!("select {columns} from readings");
    each_tells(
        &kind(&url(server, "reader"), None),
        &[
            (json!({"query": "select count(*) from readings", "min": 1}), "ok: count is 1"),
            (json!({"query": "select count(*) from readings", "min": 2}), "failed: count is 1, expected at least 2"),
            (json!({"query": query("big"), "equals": 9_000_000_000_i64}), "ok: big is 9000000000"),
            (json!({"query": query("p"), "max": 6}), "failed: p is 7, expected at most 6"),
            (json!({"query": query("sum(n)"), "min": 12.5, "max": 12.5}), "ok: sum is 12.500"),
            (json!({"query": query("avg(i)"), "equals": 3}), "ok: avg is 3"),
            (json!({"query": query("sum(big)"), "max": 1}), "failed: sum is 9000000000, expected at most 1"),
            (json!({"query": "select 1e30::numeric", "min": 1}), "ok: numeric is 1000000000000000000000000000000"),
            (json!({"query": "select 'NaN'::numeric", "min": 1}), "failed: numeric is (numeric: not read"),
            (json!({"query": query("r"), "max": 2.4}), "failed: r is 2.5, expected at most 2.4"),
            (json!({"query": query("r::float4"), "equals": 2.5}), "ok: r is 2.5"),
            (json!({"query": query("s"), "equals": "up"}), "ok: s is up"),
            (json!({"query": query("s"), "equals": "down"}), "failed: s is up, expected `down`"),
            (json!({"query": query("b"), "equals": true}), "ok: b is true"),
            (json!({"query": query("*"), "column": "m", "equals": "fine"}), "ok: m is fine"),
            (json!({"query": query("u"), "equals": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}), "ok: u is a0ee"),
            (json!({"query": query("j"), "equals": "{\"a\": 1}"}), "ok: j is {\"a\": 1}"),
            (json!({"query": query("x"), "min": 1}), "failed: x is (interval: not read, cast it to text)"),
            (json!({"query": query("never"), "min": 1}), "failed: never is NULL, expected at least 1"),
            (json!({"query": query("max(at)"), "max_age_minutes": 4}), "ok: max is 2026-11-21 11:56 UTC, 4 min old"),
            (json!({"query": query("at"), "max_age_minutes": 3}), "failed: at is 2026-11-21 11:56 UTC, 4 min old, expected"),
            (json!({"query": query("naive"), "max_age_minutes": 60}), "ok: naive is 2026-11-21 11:00 UTC, 60 min old"),
            (json!({"query": query("d"), "max_age_minutes": 720}), "ok: d is 2026-11-21 00:00 UTC, 12 h old"),
            (json!({"query": query("at::text"), "max_age_minutes": 4}), "ok: at is 2026-11-21 11:56 UTC"),
            (json!({"query": query("extract(epoch from at)"), "max_age_minutes": 4}), "ok: extract is 2026-11-21 11:56 UTC"),
            (json!({"query": query("never"), "max_age_minutes": 4}), "failed: never is NULL: there is no such time yet"),
            (json!({"query": query("far"), "max_age_minutes": 4}), "failed: far is infinity, which is not read as a time"),
            (json!({"query": "select * from readings where i > 5", "max_rows": 0}), "ok: 0 rows"),
            (json!({"query": "select * from generate_series(1, 5)", "max_rows": 2}), "failed: 5 rows, expected at most 2"),
            (json!({"query": "select generate_series(1, 100000000)", "max_rows": 2}), "failed: more than 1000 rows"),
            (json!({"query": "show transaction_read_only", "equals": "on"}), "ok: transaction_read_only is on"),
            (json!({"query": "select current_setting('application_name')", "equals": "watchbell"}), "ok: "),
            // Literals end where the server ends them.
            (json!({"query": r"select '\' || ':tick' || E'\' :since \' -- ' || $$ :tick ' $$", "equals": r"\:tick' :since ' --  :tick ' "}), "ok"),
            (json!({"query": "select E'a'\n'\\' :since ' /* /* :tick ' */ */", "equals": "a' :since "}), "ok"),
            (json!({"query": "select (array[1, 2, 3])[1:2]::text", "equals": "{1,2}"}), "ok"),
            (json!({"query": "values (1), (2)", "min_rows": 2, "message": "{{ rows[1].column1 }} of {{ row_count }}"}), "ok: 2 of 2"),
            (json!({"query": "select absent", "min": 1}), "error: connection `default`: the statement failed: column \"absent\" does not exist (code 42703); statement: select absent"),
        ],
    )
    .await;
}

async fn the_window_is_bound(server: &Server) {
    let query = |rest: &str| json!({"query": format!("select count(*) from readings where {rest}"), "min": 1});
    each_tells(
        &kind(&url(server, "reader"), None),
        &[
            (query("at > :since and at <= :tick and at > :since"), "ok: count is 1 (since 2026-11-21 11:55 UTC)"),
            (query("at > :tick"), "failed: count is 0, expected at least 1; statement: select count(*)"),
            (query("naive <= :tick - interval '1 hour' and naive > :since - interval '2 hours'"), "ok"),
            (query(":since::date = d and s <> ':tick' -- :since"), "ok"),
            (json!({"query": "select pg_typeof(:tick)::text", "equals": "timestamp with time zone"}), "ok"),
        ],
    )
    .await;
}

async fn writing_is_refused(server: &Server, admin: &mut PgConnection) {
    // As a superuser: nothing but the guard and the session stands in the way.
    let sql = kind(&url(server, "postgres"), None);
    for query in [
        "insert into readings (i) values (1)",
        "with x as (delete from readings returning i) select * from x",
        "select * into copied from readings",
        "copy readings to program 'true'",
        "copy readings to '/tmp/x'",
        "create table t (a int)",
        "select 1; delete from readings",
        "begin read write",
        "set transaction read write",
        "do 'begin end'",
        "select * from readings for update",
    ] {
        let told = told(&sql, &json!({"query": query, "min": 0})).await;
        assert!(told.starts_with("fault: config.query:"), "{query}: {told}");
    }
    for query in [
        "select pg_read_file('/etc/passwd')",
        "select lo_export(1, '/tmp/x')",
        "select * from pg_ls_dir('/')",
        "select set_config('transaction_read_only', 'off', false)",
        "select pg_terminate_backend(1)",
    ] {
        let told = told(&sql, &json!({"query": query, "min": 0})).await;
        assert!(told.contains("` is refused: it reaches files"), "{query}: {told}");
    }
    // Past the guard the session refuses.
    let written = told(&sql, &json!({"query": "select write_it()", "min": 0})).await;
    assert!(written.contains("cannot execute INSERT in a read-only transaction"), "{written}");
    let rows: i64 = sqlx::query_scalar("select count(*) from readings").fetch_one(admin).await.unwrap();
    assert_eq!(rows, 1);
}

async fn running(admin: &mut PgConnection) -> i64 {
    sqlx::query_scalar(
        "select count(*) from pg_stat_activity where application_name = 'watchbell' and state = 'active'",
    )
    .fetch_one(admin)
    .await
    .unwrap()
}

async fn until_running(admin: &mut PgConnection, expected: i64) {
    let begin = Instant::now();
    while running(admin).await != expected {
        assert!(begin.elapsed() < Duration::from_secs(20), "not {expected} running statements");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn a_time_out_ends_the_statement(server: &Server, admin: &mut PgConnection) {
    let sql = kind(&url(server, "reader"), None);
    let check = prepared(&sql, &json!({"query": "select pg_sleep(600)", "min": 1}));
    let error = check.check(&context(Duration::from_secs(1))).await.unwrap_err().to_string();
    assert!(error.contains("still running near the time-out of 1 s and was stopped on the server"), "{error}");
    assert_eq!(running(admin).await, 0);
}

async fn a_dropped_check_ends_the_statement(server: &Server, admin: &mut PgConnection) {
    let sql = kind(&url(server, "reader"), None);
    let check = prepared(&sql, &json!({"query": "select pg_sleep(600)", "min": 1}));
    let task = tokio::spawn(async move { check.check(&context(Duration::from_secs(2))).await.map(|_| ()) });
    until_running(admin, 1).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    until_running(admin, 0).await;
}

async fn what_cannot_be_reached_is_told(server: &Server) {
    let row = json!({"query": "select 1", "min": 1});
    let no_host = "h".repeat(70);
    for (url, expected) in [
        (
            format!("postgres://reader:wr0ng-pw@127.0.0.1:{}/postgres", server.port),
            "connecting failed: password authentication failed for user \"reader\" (code 28P01)",
        ),
        (format!("postgres://reader:{PASSWORD_IN_URL}@127.0.0.1:{}/absent", server.port), "\"absent\" does not exist"),
        (format!("postgres://reader:{PASSWORD_IN_URL}@127.0.0.1:1/postgres"), "connecting failed: Connection refused"),
        (format!("postgres://reader:{PASSWORD_IN_URL}@{no_host}:1/postgres"), "failed to lookup address information"),
    ] {
        let told = told(&kind(&url, None), &row).await;
        assert!(told.starts_with("error: connection `default` (PostgreSQL): ") && told.contains(expected), "{told}");
        for secret in ["wr0ng-pw", PASSWORD, PASSWORD_IN_URL, url.as_str()] {
            assert!(!told.contains(secret), "{told}");
        }
    }
}

async fn doctor_warns_of_rights(server: &Server) {
    let warnings = async |role| connection_warnings("shop", &connection(&url(server, role))).await.join("\n");
    assert_eq!(warnings("reader").await, "");
    assert!(warnings("postgres").await.starts_with("connection `shop`: its role is a superuser"));
    assert!(warnings("writer").await.starts_with("connection `shop`: its role can write 1 table(s)"));
    assert!(warnings("files").await.contains("can reach files or programs of the server"));
}

async fn the_own_database_is_not_asked(server: &Server) {
    let own = format!("postgres://watchbell:x@localhost:{}/postgres", server.port);
    let row = json!({"query": "select 1", "min": 1});
    let refused = told(&kind(&url(server, "reader"), Some(&own)), &row).await;
    assert!(refused.contains("is Watchbell's own database"), "{refused}");
    assert!(
        told(&kind(&url(server, "reader"), Some("postgres://w@localhost:1/postgres")), &row).await.starts_with("ok")
    );
}
