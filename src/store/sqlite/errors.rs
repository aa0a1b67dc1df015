//! SQLite's errors in our words.

use crate::ports::StoreError;

// Primary result codes: https://www.sqlite.org/rescode.html
const PERM: u32 = 3;
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const NOMEM: u32 = 7;
const READONLY: u32 = 8;
const INTERRUPT: u32 = 9;
const IOERR: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANTOPEN: u32 = 14;
/// The locks of the WAL were in motion.
const PROTOCOL: u32 = 15;
/// Somebody changed the tables meanwhile; the statement is prepared anew.
const SCHEMA: u32 = 17;
const NOTADB: u32 = 26;

/// What `action` failed with, by what the caller can do about it.
pub(super) fn explain(action: &str, error: &sqlx::Error) -> StoreError {
    let action = action.to_owned();
    let Some(code) = primary_code(error) else {
        let reason = match error {
            sqlx::Error::Database(database) => {
                return StoreError::Refused { action, reason: database.message().to_owned() };
            }
            sqlx::Error::ColumnDecode { index, source } => {
                return StoreError::Refused { action, reason: format!("column {index}: {source}") };
            }
            sqlx::Error::PoolTimedOut => "no connection became free in time".to_owned(),
            other => other.to_string(),
        };
        return StoreError::Unavailable { action, reason };
    };
    let message = message(error);
    match code {
        NOMEM | INTERRUPT | PROTOCOL | SCHEMA => StoreError::Unavailable { action, reason: message },
        BUSY | LOCKED => StoreError::Unavailable {
            action,
            reason: "another program holds the database's lock; end its open transaction".to_owned(),
        },
        FULL => {
            StoreError::Unavailable { action, reason: "the disk is full; make room where the database lies".to_owned() }
        }
        IOERR => StoreError::Unavailable { action, reason: format!("the disk answers with an error: {message}") },
        READONLY | PERM => StoreError::Unusable {
            action,
            // A `-wal` file that was made while the database was read-only is read-only itself.
            reason: format!(
                "{message}; the database file, the `-wal` and `-shm` files beside it, and the folder must be writable \
                 by this user"
            ),
        },
        CANTOPEN => StoreError::Unusable {
            action,
            reason: format!("{message}; its folder must exist and be writable by this user"),
        },
        CORRUPT => StoreError::Unusable { action, reason: format!("{message}; restore the file from a backup") },
        NOTADB => {
            StoreError::Unusable { action, reason: format!("{message}; name another file, or move this one away") }
        }
        _ => StoreError::Refused { action, reason: message },
    }
}

/// Whether another program holds the lock.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(BUSY | LOCKED))
}

fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let sqlx::Error::Database(database) = error else { return None };
    database.code()?.parse::<u32>().ok().map(|extended| extended & 0xff)
}

fn message(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        other => other.to_string(),
    }
}
