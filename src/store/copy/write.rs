//! Pages written to the target: each in one transaction, so that the last key says how far the copy is.

use sqlx::Error;

use super::error::CopyError;
use super::pages::{Values, failed, key_of, shown};
use super::tables::Table;
use crate::ports::StoreError;
use crate::store::database::{Batch, Bind, Connection, Database, Dialect, Sql, Type, explain, query};

/// What one statement holds at most, unless one row has more: far below what servers take in one message (MariaDB: 16
/// MiB), also where all of it must be escaped.
const STATEMENT_BYTES: usize = 2 * 1024 * 1024;

/// Writes rows that come after all that are there.
///
/// # Errors
/// [`CopyError::BadRow`] when the target refuses one of them: nothing of the page is written then.
pub(super) async fn write(target: &Database, table: &'static Table, rows: &[Values]) -> Result<(), CopyError> {
    match try_write(target, table, rows).await {
        Ok(()) => Ok(()),
        Err(error) if is_refusal(&error) => Err(find_bad_row(target, table, rows, error).await),
        Err(error) => Err(failed("write", table, &error)),
    }
}

async fn try_write(target: &Database, table: &Table, rows: &[Values]) -> Result<(), Error> {
    let mut transaction = strict_transaction(target).await?;
    if table.is_single {
        overwrite(&mut transaction, table, rows).await?;
    } else {
        for chunk in chunks(rows) {
            insert(&mut transaction, table, chunk).await?;
        }
    }
    transaction.commit().await
}

/// One in which nothing is bent: what is too long would be cut off without a word on a MySQL server that is set so.
async fn strict_transaction(target: &Database) -> Result<Connection, Error> {
    let mut transaction = target.transaction().await?;
    if transaction.dialect() == Dialect::MySql {
        transaction.raw("SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')").await?;
    }
    Ok(transaction)
}

async fn insert(transaction: &mut Connection, table: &Table, rows: &[Values]) -> Result<(), Error> {
    let is_monitors = table.name == "monitors";
    let mut batch = Batch::new(table.columns);
    for row in rows {
        let mut row = row.clone();
        if is_monitors {
            let write_seq = &mut row[table.position("write_seq")];
            if let Bind::Int(Some(number)) = write_seq {
                *number = number.wrapping_sub(1);
            }
        }
        batch.push(row);
    }
    let values = table.columns.iter().map(|(name, _)| match table.json.contains(name) {
        true => format!("{{as json b.{name}}}"),
        false => format!("b.{name}"),
    });
    let values = values.collect::<Vec<_>>().join(", ");
    let statement = format!("INSERT INTO {} ({}) SELECT {values} FROM {{batch}} AS b", table.name, table.names());
    query(statement).batch(batch).execute(&mut *transaction).await?;
    if is_monitors { restore_counters(transaction, table, rows).await } else { Ok(()) }
}

/// The triggers took the rows for new ones: they numbered them, and wrote about it into the log, which holds nothing
/// else until it is copied itself. Since `write_seq` changes here, they take this for Watchbell's own writing.
async fn restore_counters(transaction: &mut Connection, table: &Table, rows: &[Values]) -> Result<(), Error> {
    const COUNTERS: &[(&str, Type)] =
        &[("id", Type::Int), ("revision", Type::Int), ("recheck_seq", Type::Int), ("write_seq", Type::Int)];
    const RESTORE: &str = "UPDATE monitors SET revision = b.revision, recheck_seq = b.recheck_seq, \
        write_seq = b.write_seq FROM {batch} AS b WHERE monitors.id = b.id";
    const RESTORE_MYSQL: &str = "UPDATE monitors m JOIN {batch} AS b ON b.id = m.id SET m.revision = b.revision, \
        m.recheck_seq = b.recheck_seq, m.write_seq = b.write_seq";
    let mut batch = Batch::new(COUNTERS);
    for row in rows {
        batch.push(COUNTERS.iter().map(|(column, _)| row[table.position(column)].clone()).collect());
    }
    query(Sql::each(RESTORE, RESTORE, RESTORE_MYSQL)).batch(batch).execute(&mut *transaction).await?;
    query("DELETE FROM monitor_changes").execute(transaction).await?;
    Ok(())
}

/// A table whose one row is there already.
async fn overwrite(transaction: &mut Connection, table: &Table, rows: &[Values]) -> Result<(), Error> {
    for row in rows {
        let others: Vec<(usize, &str)> =
            table.columns.iter().map(|(name, _)| *name).enumerate().filter(|(_, name)| *name != "id").collect();
        let settings: Vec<String> =
            others.iter().enumerate().map(|(number, (_, name))| format!("{name} = ?{}", number + 1)).collect();
        let mut update = query(format!("UPDATE {} SET {} WHERE id = 1", table.name, settings.join(", ")));
        for (index, _) in others {
            update = update.bind_value(row[index].clone());
        }
        update.execute(&mut *transaction).await?;
    }
    Ok(())
}

/// Consecutive rows, as many as fit into a statement.
fn chunks(rows: &[Values]) -> Vec<&[Values]> {
    let mut chunks = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (index, row) in rows.iter().enumerate() {
        let size: usize = row.iter().map(size).sum();
        if bytes + size > STATEMENT_BYTES && index > from {
            chunks.push(&rows[from..index]);
            (from, bytes) = (index, 0);
        }
        bytes += size;
    }
    chunks.push(&rows[from..]);
    chunks
}

fn size(value: &Bind) -> usize {
    match value {
        Bind::Text(Some(text)) => text.len(),
        _ => 24,
    }
}

/// Whether the target refuses these very rows.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Database(_)) && matches!(explain("", error), StoreError::Refused { .. })
}

/// Halves the page until one row is left that is refused.
async fn find_bad_row(target: &Database, table: &'static Table, rows: &[Values], error: Error) -> CopyError {
    let (mut rows, mut error) = (rows, error);
    while rows.len() > 1 {
        let (first, second) = rows.split_at(rows.len() / 2);
        (rows, error) = match refusal(target, table, first).await {
            Some(error) => (first, error),
            None => match refusal(target, table, second).await {
                Some(error) => (second, error),
                // Only together: two rows have what only one may have.
                None => break,
            },
        };
    }
    let StoreError::Refused { reason, .. } = explain("write", &error) else { return failed("write", table, &error) };
    let key = |row: &Values| shown(table, &key_of(table, row));
    let row = match rows {
        [first, .., last] => format!("{} to {}", key(first), key(last)),
        rows => rows.iter().map(key).collect(),
    };
    CopyError::BadRow { table: table.name, row, column: column_in(table, &reason), reason }
}

/// What the target refuses these rows with; nothing is written.
async fn refusal(target: &Database, table: &Table, rows: &[Values]) -> Option<Error> {
    let attempt = async {
        let mut transaction = strict_transaction(target).await?;
        insert(&mut transaction, table, rows).await
    };
    attempt.await.err()
}

/// Which column the database speaks of: by its name in quotes, or by that of a constraint, which begins with it.
fn column_in(table: &Table, reason: &str) -> String {
    let names = table.columns.iter().map(|(name, _)| *name);
    let is_named = |name: &&str| {
        [format!("'{name}'"), format!("\"{name}\""), format!("`{name}`"), format!("{name}_"), format!(".{name}")]
            .iter()
            .any(|text| reason.contains(text.as_str()))
    };
    names.filter(is_named).max_by_key(|name| name.len()).unwrap_or("?").to_owned()
}
