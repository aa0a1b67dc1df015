//! PostgreSQL, shared and of a test's own.

use std::path::Path;

use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::sql::{block_on, execute, rows, try_rows};

use super::{is_silent, text};

#[tokio::test]
async fn each_database_of_the_shared_server_is_empty_and_its_own() {
    let server = Postgres::shared().await;
    let (one, other) = (server.fresh_database().await, server.fresh_database().await);
    execute(&one, "CREATE TABLE t (n int, s text); INSERT INTO t VALUES (1, NULL), (2, 'x')").await;
    let found = rows(&one, "SELECT n, s, n = 1 FROM t ORDER BY n").await;
    assert_eq!(found, [vec![text("1"), None, text("t")], vec![text("2"), text("x"), text("f")]]);
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(rows(&other, tables).await, [[text("0")]]);
}

/// A test whose clock stands still runs ahead to the next deadline whenever it waits.
#[tokio::test(start_paused = true)]
async fn a_test_on_a_clock_of_its_own_may_use_it() {
    let url = Postgres::shared().await.fresh_database().await;
    assert_eq!(rows(&url, "SELECT pg_sleep(0.05)::text || 'x'").await, [[text("x")]]);
}

#[test]
fn a_test_without_async_may_use_it() {
    let url = block_on(async { Postgres::shared().await.fresh_database().await });
    assert_eq!(block_on(rows(&url, "SELECT 1")), [[text("1")]]);
}

#[tokio::test]
async fn what_was_committed_outlives_a_restart_and_a_kill() {
    let server = Postgres::own(PostgresOptions { is_durable: true, ..PostgresOptions::default() });
    let url = server.fresh_database().await;
    assert_eq!(rows(&url, "SHOW fsync").await, [[text("on")]]);
    execute(&url, "CREATE TABLE t (n int)").await;
    for (n, down) in [("1", Postgres::stop as fn(&Postgres)), ("2", Postgres::kill_9)] {
        execute(&url, &format!("INSERT INTO t VALUES ({n})")).await;
        down(&server);
        assert!(try_rows(&url, "SELECT 1").await.is_err(), "it is down");
        server.start();
        assert_eq!(rows(&url, "SELECT max(n) FROM t").await, [[text(n)]]);
    }
    assert!(server.log().contains("database system was not properly shut down"), "{}", server.log());
    server.restart();
    assert_eq!(rows(&url, "SELECT max(n) FROM t").await, [[text("2")]]);
}

#[tokio::test]
async fn a_kill_ends_sessions_that_are_at_work() {
    let server = Postgres::own(PostgresOptions::default());
    let url = server.url("postgres");
    let work = tokio::spawn(async move { try_rows(&url, "SELECT pg_sleep(600)").await });
    while rows(&server.url("postgres"), "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'").await.is_empty()
    {
    }
    server.kill_9();
    assert!(work.await.unwrap().is_err());
    server.start();
}

#[tokio::test]
async fn while_it_is_paused_open_sessions_and_new_ones_wait() {
    let server = Postgres::own(PostgresOptions::default());
    let url = server.url("postgres");
    let mut open = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    server.pause();
    let (mut in_session, mut in_new_one) =
        (Box::pin(sqlx::raw_sql("SELECT 1").execute(&mut open)), Box::pin(rows(&url, "SELECT 2")));
    assert!(is_silent(&mut in_session).await, "the session is not paused");
    assert!(is_silent(&mut in_new_one).await, "the server is not paused");
    server.resume();
    in_session.await.unwrap();
    assert_eq!(in_new_one.await, [[text("2")]]);
}

#[tokio::test]
async fn with_tls_and_a_password_nothing_less_is_taken() {
    let password = Some("open-sesame".to_owned());
    let server = Postgres::own(PostgresOptions { has_tls: true, password, ..PostgresOptions::default() });
    let url = server.fresh_database().await;
    let found = rows(&url, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await;
    assert_eq!(found, [[text("t")]]);
    for worse in [url.replace("open-sesame", "wrong"), url.replace("verify-full", "disable")] {
        assert!(try_rows(&worse, "SELECT 1").await.is_err(), "{worse}");
    }
    let untrusted = url.split("&sslrootcert").next().unwrap();
    assert!(try_rows(untrusted, "SELECT 1").await.is_err(), "its authority is its own");
}

#[tokio::test]
async fn settings_are_the_tests_to_choose() {
    let settings = vec![("max_connections", "7".to_owned())];
    let server = Postgres::own(PostgresOptions { settings, ..PostgresOptions::default() });
    assert_eq!(rows(&server.url("postgres"), "SHOW max_connections").await, [[text("7")]]);
}

#[test]
fn nothing_is_left_of_it() {
    let server = Postgres::own(PostgresOptions::default());
    let folder = server.ca_file().parent().unwrap().to_owned();
    let main_process = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    let main_process = format!("/proc/{}", main_process.lines().next().unwrap());
    assert!(Path::new(&main_process).exists());
    server.pause();
    drop(server);
    assert!(!folder.exists() && !Path::new(&main_process).exists());
}
