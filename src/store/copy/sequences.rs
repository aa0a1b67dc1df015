//! The numbers that were given: the target goes on after them, also after those of rows that are gone. A monitor that
//! was given the number of a deleted one would take over its history.

use sqlx::Error;

use super::error::CopyError;
use super::pages::failed;
use super::tables::{TABLES, Table};
use crate::store::database::{Database, Dialect, Sql, query};

/// MySQL 8 tells a number that is up to a day old, unless it is told not to. MariaDB does not read the comment.
const FRESH: &str = "SET @watchbell_fresh = 1 /*!80000 , SESSION information_schema_stats_expiry = 0 */";

/// Sets the target's sequences.
pub(super) async fn follow(source: &Database, target: &Database) -> Result<(), CopyError> {
    for table in TABLES.iter().filter(|table| table.is_numbered()) {
        let last = highest(source, table).await.map_err(|error| failed("read the last number of", table, &error))?;
        go_on_after(target, table, last).await.map_err(|error| failed("set the next number of", table, &error))?;
    }
    Ok(())
}

/// The highest number that was given, as far as anything knows of it.
async fn highest(database: &Database, table: &Table) -> Result<i64, Error> {
    let name = table.name;
    let mut highest = given(database, table).await?;
    let mut known = vec![format!("SELECT COALESCE(max(id), 0) AS id FROM {name}")];
    match name {
        "monitor_changes" => known.push("SELECT COALESCE(max(revision), 0) AS id FROM monitors".to_owned()),
        "monitors" => {
            known.push("SELECT COALESCE(max(monitor_id), 0) AS id FROM incidents".to_owned());
            known.push("SELECT COALESCE(max(monitor_id), 0) AS id FROM monitor_changes".to_owned());
        }
        _ => {}
    }
    for statement in known {
        highest = highest.max(query(statement).int(database).await?);
    }
    Ok(highest)
}

async fn given(database: &Database, table: &Table) -> Result<i64, Error> {
    let name = table.name;
    let statement = match database.dialect() {
        Dialect::Sqlite => format!("SELECT COALESCE(max(seq), 0) AS n FROM sqlite_sequence WHERE name = '{name}'"),
        Dialect::Postgres => {
            format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS n FROM {name}_id_seq")
        }
        Dialect::MySql => format!(
            "SELECT CAST(COALESCE(max(auto_increment), 1) AS SIGNED) - 1 AS n FROM information_schema.tables \
             WHERE table_schema = database() AND table_name = '{name}'"
        ),
    };
    let mut connection = database.reader().await?;
    if connection.dialect() == Dialect::MySql {
        connection.raw(FRESH).await?;
    }
    let given = query(statement).int(&mut connection).await?;
    connection.commit().await?;
    Ok(given)
}

async fn go_on_after(database: &Database, table: &Table, last: i64) -> Result<(), Error> {
    let name = table.name;
    if given(database, table).await? >= last {
        return Ok(());
    }
    match database.dialect() {
        Dialect::Sqlite => {
            let mut transaction = database.transaction().await?;
            query("DELETE FROM sqlite_sequence WHERE name = ?1").bind(name).execute(&mut transaction).await?;
            let insert = query("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)").bind(name).bind(last);
            insert.execute(&mut transaction).await?;
            transaction.commit().await
        }
        Dialect::Postgres => {
            let mut transaction = database.transaction().await?;
            let set: Sql = format!("SELECT setval('{name}_id_seq', ?1) AS n").into();
            query(set).bind(last).int(&mut transaction).await?;
            transaction.commit().await
        }
        Dialect::MySql => {
            let next = last.saturating_add(1);
            query(format!("ALTER TABLE {name} AUTO_INCREMENT = {next}")).execute(database).await.map(drop)
        }
    }
}
