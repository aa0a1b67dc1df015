//! The kind `sql` on MariaDB.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{Connection, MySqlConnection};
use watchbell_contract::testing;
use watchbell_monitors::sql::connection_warnings;

use crate::asking::{connection, context, each_tells, kind, prepared, told};
use crate::server::{self, Server};

const PASSWORD: &str = "s3c/ret@x";
const PASSWORD_IN_URL: &str = "s3c%2Fret%40x";

const SET_UP: &str = "
    create database shop;
    create database watchbell;
    create table watchbell.monitors (id int);
    use shop;
    create table readings (i int, big bigint unsigned, n decimal(12, 3), r double, s varchar(20), b boolean,
        at datetime(3), stamp timestamp(3) null, d date, j json, t time, raw varbinary(4), m enum('fine', 'bad'), never datetime);
    insert into readings values (3, 18446744073709551615, 12.500, 2.5, 'up', true, '2026-11-21 11:56:00.000',
        '2026-11-21 11:56:00', '2026-11-21', '{\"a\": 1}', '10:00:00', x'00ff', 'fine', null);
    create function write_it() returns int modifies sql data begin insert into readings (i) values (1); return 1; end;
    create user reader identified by 's3c/ret@x';
    grant select on shop.* to reader;
    grant execute on shop.* to reader;
    create user plain identified by 's3c/ret@x';
    grant select on shop.* to plain;
    create user writer identified by 's3c/ret@x';
    grant select, insert on shop.* to writer;
    create user files identified by 's3c/ret@x';
    grant file on *.* to files;
    create user wide identified by 's3c/ret@x';
    grant all privileges on *.* to wide;
";

fn url(server: &Server, user: &str) -> String {
    format!("mysql://{user}:{PASSWORD_IN_URL}@127.0.0.1:{}/shop", server.port)
}

#[tokio::test]
async fn mariadb_is_asked_and_never_written() {
    let server = server::mariadb();
    let mut admin = MySqlConnection::connect(&format!("mysql://root@127.0.0.1:{}", server.port)).await.unwrap();
    sqlx::raw_sql(SET_UP).execute(&mut admin).await.unwrap();

    testing::exercise(&kind(&url(&server, "plain"), None)).await;
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
        &kind(&url(server, "plain"), None),
        &[
            (json!({"query": "select count(*) from readings", "min": 1}), "ok: count is 1"),
            (json!({"query": "select count(*) from readings", "min": 2}), "failed: count is 1, expected at least 2"),
            (json!({"query": query("big"), "min": 1}), "ok: big is 18446744073709551615"),
            (json!({"query": query("sum(n)"), "min": 12.5, "max": 12.5}), "ok: sum is 12.500"),
            (json!({"query": query("avg(i)"), "equals": 3}), "ok: avg is 3.0000"),
            (json!({"query": query("sum(i)"), "max": 1}), "failed: sum is 3, expected at most 1"),
            (json!({"query": query("r"), "max": 2.4}), "failed: r is 2.5, expected at most 2.4"),
            (json!({"query": query("s"), "equals": "up"}), "ok: s is up"),
            (json!({"query": query("s"), "equals": "down"}), "failed: s is up, expected `down`"),
            (json!({"query": query("concat(i, 'x')"), "equals": "3x"}), "ok: "),
            (json!({"query": query("b"), "equals": true}), "ok: b is 1"),
            (json!({"query": query("*"), "column": "m", "equals": "fine"}), "ok: m is fine"),
            (json!({"query": query("j"), "equals": "{\"a\": 1}"}), "ok: j is {\"a\": 1}"),
            (json!({"query": query("t"), "min": 1}), "failed: t is (time: not read, cast it to text)"),
            (json!({"query": query("raw"), "min": 1}), "failed: raw is (varbinary: not read, cast it to text)"),
            (json!({"query": query("never"), "min": 1}), "failed: never is NULL, expected at least 1"),
            (json!({"query": query("max(at)"), "max_age_minutes": 4}), "ok: max is 2026-11-21 11:56 UTC, 4 min old"),
            (json!({"query": query("stamp"), "max_age_minutes": 4}), "ok: stamp is 2026-11-21 11:56 UTC, 4 min old"),
            (json!({"query": query("at"), "max_age_minutes": 3}), "failed: at is 2026-11-21 11:56 UTC, 4 min old, expected"),
            (json!({"query": query("d"), "max_age_minutes": 720}), "ok: d is 2026-11-21 00:00 UTC, 12 h old"),
            (json!({"query": query("unix_timestamp(at) as u"), "max_age_minutes": 4}), "ok: u is 2026-11-21 11:56 UTC"),
            (json!({"query": query("never"), "max_age_minutes": 4}), "failed: never is NULL: there is no such time yet"),
            (json!({"query": "select * from readings where i > 5", "max_rows": 0}), "ok: 0 rows"),
            (json!({"query": "select seq from seq_1_to_5", "max_rows": 2}), "failed: 5 rows, expected at most 2"),
            (json!({"query": "select seq from seq_1_to_100000000", "max_rows": 2}), "failed: more than 1000 rows"),
            (json!({"query": "show tables", "min_rows": 1}), "ok: 1 row"),
            (json!({"query": "select 'a' || 'b'", "equals": 0}), "ok"),
            (json!({"query": "select \"it's\" '' -- :tick", "equals": "it's"}), "ok"),
            (json!({"query": r"select concat('\' :tick', 1--1) # ' :since", "equals": "' :tick2"}), "ok"),
            (json!({"query": "select s, i from readings", "min_rows": 1, "message": "{{ rows[0].s }} {{ rows[0].i }}"}), "ok: up 3"),
            (json!({"query": "select absent", "min": 1}), "error: connection `default`: the statement failed: Unknown column 'absent' in "),
        ],
    )
    .await;
}

async fn the_window_is_bound(server: &Server) {
    let query = |rest: &str| json!({"query": format!("select count(*) from readings where {rest}"), "min": 1});
    each_tells(
        &kind(&url(server, "plain"), None),
        &[
            (query("at > :since and at <= :tick and at > :since"), "ok: count is 1 (since 2026-11-21 11:55 UTC)"),
            (query("stamp > :since and stamp <= :tick"), "ok"),
            (query("at > :tick"), "failed: count is 0, expected at least 1; statement: select count(*)"),
            (query("date(:since) = d and s <> ':tick' # :since"), "ok"),
            (json!({"query": "select cast(:since as char)", "equals": "2026-11-21 11:55:00"}), "ok"),
        ],
    )
    .await;
}

async fn writing_is_refused(server: &Server, admin: &mut MySqlConnection) {
    let sql = kind(&url(server, "wide"), None);
    for query in [
        "insert into readings (i) values (1)",
        "replace into readings (i) values (1)",
        "create table t (a int)",
        "select 1; delete from readings",
        "set session transaction read write",
        "select 1 into outfile '/tmp/x'",
        "select 1 into dumpfile '/tmp/x'",
        "select * from readings for update",
        "select * from readings lock in share mode",
        "load data infile '/etc/passwd' into table readings",
        "handler readings open",
    ] {
        let told = told(&sql, &json!({"query": query, "min": 0})).await;
        assert!(told.starts_with("fault: config.query:"), "{query}: {told}");
    }
    for query in [
        "select load_file('/etc/passwd')",
        "select get_lock('x', 1)",
        "select /*!50000 1 */ from readings",
        "set statement max_statement_time = 0 for select 1",
    ] {
        let told = told(&sql, &json!({"query": query, "min": 0})).await;
        assert!(told.contains("refused"), "{query}: {told}");
    }
    // Past the guard the session refuses.
    let written = told(&sql, &json!({"query": "select write_it()", "min": 0})).await;
    assert!(written.contains("Cannot execute statement in a READ ONLY transaction"), "{written}");
    let rows: i64 = sqlx::query_scalar("select count(*) from shop.readings").fetch_one(admin).await.unwrap();
    assert_eq!(rows, 1);
}

async fn running(admin: &mut MySqlConnection) -> i64 {
    sqlx::query_scalar(
        "select count(*) from information_schema.processlist where user = 'plain' and info like '%sleep%'",
    )
    .fetch_one(admin)
    .await
    .unwrap()
}

async fn until_running(admin: &mut MySqlConnection, expected: i64) {
    let begin = Instant::now();
    while running(admin).await != expected {
        assert!(begin.elapsed() < Duration::from_secs(20), "not {expected} running statements");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn a_time_out_ends_the_statement(server: &Server, admin: &mut MySqlConnection) {
    let sql = kind(&url(server, "plain"), None);
    let check = prepared(&sql, &json!({"query": "select sleep(600)", "min": 1}));
    let error = check.check(&context(Duration::from_secs(1))).await.unwrap_err().to_string();
    assert!(error.contains("still running near the time-out of 1 s and was stopped on the server"), "{error}");
    assert_eq!(running(admin).await, 0);
}

async fn a_dropped_check_ends_the_statement(server: &Server, admin: &mut MySqlConnection) {
    let sql = kind(&url(server, "plain"), None);
    let check = prepared(&sql, &json!({"query": "select sleep(600)", "min": 1}));
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
            format!("mysql://plain:wr0ng-pw@127.0.0.1:{}/shop", server.port),
            "connecting failed: Access denied for user 'plain'",
        ),
        (
            format!("mysql://plain:{PASSWORD_IN_URL}@127.0.0.1:{}/absent", server.port),
            "connecting failed: Access denied",
        ),
        (format!("mysql://plain:{PASSWORD_IN_URL}@127.0.0.1:1/shop"), "connecting failed: Connection refused"),
        (format!("mysql://plain:{PASSWORD_IN_URL}@{no_host}:1/shop"), "failed to lookup address information"),
    ] {
        let told = told(&kind(&url, None), &row).await;
        assert!(told.starts_with("error: connection `default` (MySQL): ") && told.contains(expected), "{told}");
        for secret in ["wr0ng-pw", PASSWORD, PASSWORD_IN_URL, url.as_str()] {
            assert!(!told.contains(secret), "{told}");
        }
    }
}

async fn doctor_warns_of_rights(server: &Server) {
    let warnings = async |user: &str| {
        let url = url(server, user).replace("/shop", "");
        connection_warnings("shop", &connection(&url)).await.join("\n")
    };
    assert_eq!(warnings("plain").await, "");
    assert!(warnings("writer").await.starts_with("connection `shop`: its role has INSERT on `shop`.*"));
    assert!(warnings("files").await.starts_with("connection `shop`: its role has FILE on *.*"));
    assert!(warnings("wide").await.starts_with("connection `shop`: its role has ALL PRIVILEGES on *.*"));
}

async fn the_own_database_is_not_asked(server: &Server) {
    let own = format!("mysql://root@localhost:{}/watchbell", server.port);
    let refused =
        async |url: String, query: &str| told(&kind(&url, Some(&own)), &json!({"query": query, "max": 0})).await;
    let wide = url(server, "wide");
    let told = refused(wide.replace("/shop", "/watchbell"), "select count(*) from monitors").await;
    assert!(told.contains("is Watchbell's own database"), "{told}");
    let told = refused(wide.clone(), "select count(*) from watchbell.monitors").await;
    assert!(told.contains("names `watchbell`, which is Watchbell's own database"), "{told}");
    let told = refused(wide, "select count(*) from readings where i > 5").await;
    assert!(told.starts_with("ok"), "{told}");
}
