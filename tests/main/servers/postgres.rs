//! PostgreSQL, shared and of a test's own.

use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::sql::{execute, rows};

#[tokio::test]
async fn each_database_of_the_shared_server_is_empty_and_its_own() {
    let server = Postgres::shared().await;
    let began = std::time::Instant::now();
    let (one, other) = (server.fresh_database().await, server.fresh_database().await);
    eprintln!("fresh {:?}", began.elapsed());
    execute(&one, "CREATE TABLE t (n int, s text); INSERT INTO t VALUES (1, NULL), (2, 'x')").await;
    let found = rows(&one, "SELECT n, s, n = 1 FROM t ORDER BY n").await;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(found, [vec![text("1"), None, text("t")], vec![text("2"), text("x"), text("f")]]);
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(rows(&other, tables).await, [[text("0")]]);
}

#[tokio::test]
async fn own() {
    let began = std::time::Instant::now();
    let server = Postgres::own(PostgresOptions::default());
    eprintln!("start {:?}", began.elapsed());
    let began = std::time::Instant::now();
    drop(server);
    eprintln!("drop {:?}", began.elapsed());
}
