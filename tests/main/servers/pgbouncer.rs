//! PgBouncer before the shared PostgreSQL.

use std::collections::BTreeSet;

use sqlx::{Connection, PgConnection, Row};

use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::Postgres;
use crate::support::sql::{rows, try_rows};

use super::{is_silent, text};

const POOL_SIZE: u32 = 2;

#[tokio::test]
async fn clients_share_a_few_connections_by_transaction() {
    let postgres = Postgres::shared().await;
    let pgbouncer = PgBouncer::start(postgres.address(), POOL_SIZE);
    let url = pgbouncer.instead_of(&postgres.fresh_database().await);
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(PgConnection::connect(&url).await.unwrap());
    }
    let mut behind = BTreeSet::new();
    for client in &mut clients {
        let row = sqlx::raw_sql("SELECT pg_backend_pid()::text").fetch_one(client).await.unwrap();
        behind.insert(row.try_get_unchecked::<String, _>(0).unwrap());
    }
    assert!(behind.len() <= 2, "{behind:?}");
    // Two transactions hold all that there is; a third client waits for the end of one.
    let [first, second, third, ..] = &mut clients[..] else { panic!("there are six") };
    let transaction = first.begin().await.unwrap();
    let _other = second.begin().await.unwrap();
    let mut waiting = Box::pin(sqlx::raw_sql("SELECT 1").execute(third));
    assert!(is_silent(&mut waiting).await, "there are more than {POOL_SIZE} connections");
    transaction.rollback().await.unwrap();
    waiting.await.unwrap();
}

#[tokio::test]
async fn it_can_be_stopped_and_started_again() {
    let postgres = Postgres::shared().await;
    let pgbouncer = PgBouncer::start(postgres.address(), POOL_SIZE);
    let url = pgbouncer.url("postgres");
    pgbouncer.stop();
    assert!(try_rows(&url, "SELECT 1").await.is_err());
    pgbouncer.start_again();
    assert_eq!(rows(&url, "SELECT 1").await, [[text("1")]]);
    assert!(pgbouncer.log().contains("got SIGINT"), "{}", pgbouncer.log());
}
