//! MariaDB, shared and of a test's own.

use crate::support::mariadb::{MariaDb, MariaDbOptions};
use crate::support::sql::{execute, rows, try_rows};

use super::{is_silent, text};

#[tokio::test]
async fn each_database_of_the_shared_server_is_empty_and_its_own() {
    let server = MariaDb::shared().await;
    let (one, other) = (server.fresh_database().await, server.fresh_database().await);
    execute(&one, "CREATE TABLE t (n int, s text); INSERT INTO t VALUES (1, NULL), (2, '\u{1F514}')").await;
    let found = rows(&one, "SELECT n, s, n = 1 FROM t ORDER BY n").await;
    assert_eq!(found, [vec![text("1"), None, text("1")], vec![text("2"), text("\u{1F514}"), text("0")]]);
    let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = database()";
    assert_eq!(rows(&other, tables).await, [[text("0")]]);
}

#[tokio::test]
async fn what_was_committed_outlives_a_restart_and_a_kill() {
    let server = MariaDb::own(MariaDbOptions { is_durable: true, ..MariaDbOptions::default() });
    let url = server.fresh_database().await;
    assert_eq!(rows(&url, "SELECT @@innodb_flush_log_at_trx_commit, @@log_bin").await, [[text("1"), text("0")]]);
    execute(&url, "CREATE TABLE t (n int)").await;
    for (n, down) in [("1", MariaDb::stop as fn(&MariaDb)), ("2", MariaDb::kill_9)] {
        execute(&url, &format!("INSERT INTO t VALUES ({n})")).await;
        down(&server);
        assert!(try_rows(&url, "SELECT 1").await.is_err(), "it is down");
        server.start();
        assert_eq!(rows(&url, "SELECT max(n) FROM t").await, [[text(n)]]);
    }
    assert!(server.log().contains("Starting crash recovery"), "{}", server.log());
    server.restart();
    assert_eq!(rows(&url, "SELECT max(n) FROM t").await, [[text("2")]]);
}

#[tokio::test]
async fn while_it_is_paused_open_sessions_and_new_ones_wait() {
    let server = MariaDb::own(MariaDbOptions::default());
    let url = server.url("mysql");
    let mut open = <sqlx::MySqlConnection as sqlx::Connection>::connect(&url).await.unwrap();
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
async fn with_tls_nothing_less_is_taken_and_a_binary_log_is_written() {
    let options = MariaDbOptions { has_tls: true, has_binary_log: true, ..MariaDbOptions::default() };
    let server = MariaDb::own(options);
    let url = server.fresh_database().await;
    let found = rows(&url, "SHOW STATUS LIKE 'Ssl_cipher'").await;
    assert!(found[0][1].as_ref().is_some_and(|cipher| !cipher.is_empty()), "{found:?}");
    assert_eq!(rows(&url, "SELECT @@log_bin").await, [[text("1")]]);
    let untrusted = url.split("&ssl-ca").next().unwrap().to_owned();
    for worse in [url.replace("bell-tower", "wrong"), url.replace("VERIFY_IDENTITY", "DISABLED"), untrusted] {
        assert!(try_rows(&worse, "SELECT 1").await.is_err(), "{worse}");
    }
}

#[tokio::test]
async fn settings_are_the_tests_to_choose() {
    let settings = vec![("max-connections", "17".to_owned())];
    let server = MariaDb::own(MariaDbOptions { settings, ..MariaDbOptions::default() });
    assert_eq!(rows(&server.url("mysql"), "SELECT @@max_connections").await, [[text("17")]]);
}

#[test]
fn nothing_is_left_of_it() {
    let server = MariaDb::own(MariaDbOptions::default());
    let folder = server.ca_file().parent().unwrap().to_owned();
    server.pause();
    drop(server);
    assert!(!folder.exists());
}
