//! The databases' errors in our words.

use std::io;

use sqlx::Error;
use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;
use sqlx::postgres::PgDatabaseError;

use super::Dialect;
use crate::ports::StoreError;

/// What `action` failed with, by what the caller can do about it.
pub(in crate::store) fn explain(action: &str, error: &Error) -> StoreError {
    let action = action.to_owned();
    match error {
        Error::Database(database) => of_database(action, database.as_ref()),
        Error::ColumnDecode { index, source } => {
            StoreError::Refused { action, reason: format!("column {index}: {source}") }
        }
        Error::PoolTimedOut => StoreError::Unavailable {
            action,
            reason:
                "no connection became free, or could be made, in time; is the database running, and can it be reached?"
                    .to_owned(),
        },
        Error::Io(error) => of_connection(action, error),
        Error::Tls(error) => StoreError::Unusable { action, reason: tls(&error.to_string()) },
        Error::Protocol(text) => StoreError::Unavailable {
            action,
            reason: format!("{text}; is that really PostgreSQL behind `postgres://`, and MySQL behind `mysql://`?"),
        },
        Error::Configuration(error) => {
            StoreError::Unusable { action, reason: format!("its URL cannot be used: {error}") }
        }
        other => StoreError::Unavailable { action, reason: other.to_string() },
    }
}

/// The same for the first connection: whoever answers there, or does not, may be another kind of server.
pub(in crate::store) fn explain_opening(action: &str, error: &Error, asked: Dialect) -> StoreError {
    let (expected, other) = match asked {
        Dialect::MySql => ("MySQL or MariaDB", "PostgreSQL, write `postgres://`"),
        Dialect::Postgres | Dialect::Sqlite => ("PostgreSQL", "MySQL or MariaDB, write `mysql://`"),
    };
    match (error, explain(action, error)) {
        (Error::Protocol(text), StoreError::Unavailable { action, .. }) if text.contains("authentication") => {
            StoreError::Unusable {
                action,
                reason: format!(
                    "{text}; give this user a password and the way of signing in that the server has by default"
                ),
            }
        }
        (Error::Protocol(text), StoreError::Unavailable { action, .. }) => StoreError::Unavailable {
            action,
            reason: format!("what answers there does not speak as {expected} does ({text}); if it is {other}"),
        },
        // Either waits for the other one to speak first.
        (Error::Io(io), StoreError::Unavailable { action, reason })
            if asked == Dialect::MySql && io.kind() == io::ErrorKind::TimedOut =>
        {
            StoreError::Unavailable {
                action,
                reason: format!("{reason} PostgreSQL is silent, too, when it is asked as {expected}: if it is {other}"),
            }
        }
        (_, explained) => explained,
    }
}

/// What the way to a server says. Its name stands in the action.
fn of_connection(action: String, error: &io::Error) -> StoreError {
    let text = error.to_string();
    let reason = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "connection refused: nothing listens there; is the server running, and are host and port right?".to_owned()
        }
        io::ErrorKind::TimedOut => {
            format!("{text}; is the server running, is the host right, and does a firewall let this machine through?")
        }
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
            format!(
                "{text}; is the path of the socket (or of a certificate) in the URL right, and may this user read it?"
            )
        }
        // Certificates that are refused are told as an error of the stream.
        io::ErrorKind::InvalidData if text.contains("certificate") => {
            return StoreError::Unusable { action, reason: tls(&text) };
        }
        _ if text.contains("lookup") => {
            format!("the host's name is unknown ({text}); is it spelled right, and does name resolution work here?")
        }
        _ => text,
    };
    StoreError::Unavailable { action, reason }
}

fn tls(text: &str) -> String {
    if text.contains("does not support TLS") {
        return format!("{text}; switch TLS on there, or leave `sslmode` (`ssl-mode`) out of the URL");
    }
    format!(
        "TLS: {text}; name the authority that signed the server's certificate (`sslrootcert=` on PostgreSQL, `ssl-ca=` on \
         MySQL), and the host as the certificate has it; `docs/databases.md` has examples"
    )
}

fn of_database(action: String, error: &dyn DatabaseError) -> StoreError {
    let verdict = if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        postgres(error)
    } else if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        mysql(error)
    } else {
        sqlite(error)
    };
    match verdict {
        Verdict::Unavailable(reason) => StoreError::Unavailable { action, reason },
        Verdict::Refused(reason) => StoreError::Refused { action, reason },
        Verdict::Unusable(reason) => StoreError::Unusable { action, reason },
    }
}

/// What an error means for the caller, with the reason in words. See [`StoreError`].
enum Verdict {
    Unavailable(String),
    Refused(String),
    Unusable(String),
}

/// Primary result codes of SQLite: <https://www.sqlite.org/rescode.html>.
mod sqlite_code {
    pub(super) const PERM: u32 = 3;
    pub(super) const BUSY: u32 = 5;
    pub(super) const LOCKED: u32 = 6;
    pub(super) const NOMEM: u32 = 7;
    pub(super) const READONLY: u32 = 8;
    pub(super) const INTERRUPT: u32 = 9;
    pub(super) const IOERR: u32 = 10;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const FULL: u32 = 13;
    pub(super) const CANTOPEN: u32 = 14;
    /// The locks of the WAL were in motion.
    pub(super) const PROTOCOL: u32 = 15;
    /// Somebody changed the tables meanwhile; the statement is prepared anew.
    pub(super) const SCHEMA: u32 = 17;
    pub(super) const NOTADB: u32 = 26;
}

fn sqlite(error: &dyn DatabaseError) -> Verdict {
    use sqlite_code::{
        BUSY, CANTOPEN, CORRUPT, FULL, INTERRUPT, IOERR, LOCKED, NOMEM, NOTADB, PERM, PROTOCOL, READONLY, SCHEMA,
    };
    let message = error.message().to_owned();
    match sqlite_primary(error) {
        Some(NOMEM | INTERRUPT | PROTOCOL | SCHEMA) => Verdict::Unavailable(message),
        Some(BUSY | LOCKED) => {
            Verdict::Unavailable("another program holds the database's lock; end its open transaction".to_owned())
        }
        Some(FULL) => Verdict::Unavailable("the disk is full; make room where the database lies".to_owned()),
        Some(IOERR) => Verdict::Unavailable(format!("the disk answers with an error: {message}")),
        // A `-wal` file that was made while the database was read-only is read-only itself.
        Some(READONLY | PERM) => Verdict::Unusable(format!(
            "{message}; the database file, the `-wal` and `-shm` files beside it, and the folder must be writable by \
             this user"
        )),
        Some(CANTOPEN) => Verdict::Unusable(format!("{message}; its folder must exist and be writable by this user")),
        Some(CORRUPT) => Verdict::Unusable(format!("{message}; restore the file from a backup")),
        Some(NOTADB) => Verdict::Unusable(format!("{message}; name another file, or move this one away")),
        _ => Verdict::Refused(message),
    }
}

/// SQLSTATE codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn postgres(error: &PgDatabaseError) -> Verdict {
    let message = error.message().to_owned();
    match error.code() {
        "28000" if message.contains("no encryption") => Verdict::Unusable(format!(
            "{message}; if the server wants TLS, write `?sslmode=verify-full&sslrootcert=/path/to/ca.pem` in the URL"
        )),
        "28P01" | "28000" => Verdict::Unusable(format!(
            "{message}; check user and password in the database's URL (characters such as `@`, `/` and `#` are written \
             percent-encoded there), and `pg_hba.conf` on the server"
        )),
        "08P01" if message.contains("unsupported startup parameter") => Verdict::Unusable(format!(
            "{message}; set `ignore_startup_parameters = extra_float_digits` in pgbouncer.ini"
        )),
        "3D000" => Verdict::Unusable(format!("{message}; make it first (createdb), or name another one in the URL")),
        "42501" => Verdict::Unusable(format!("{message}; {RIGHTS}")),
        "3F000" => Verdict::Unusable(format!(
            "{message}; make it first (CREATE SCHEMA), or correct the `search_path` in the URL, or that of this user"
        )),
        "42P01" | "42703" | "42883" => Verdict::Unusable(format!(
            "{message}; the tables are not there, or not those of this version: `watchbell migrate` makes them (does \
             the `search_path` of this user lead to them?)"
        )),
        "26000" | "42P05" => Verdict::Unusable(format!(
            "{message}; behind a pooler in transaction mode (PgBouncer) add `?pooler=transaction` to the URL"
        )),
        "25006" => Verdict::Unavailable(format!("{message}: this server is a standby, or read-only; name the primary")),
        "53300" => Verdict::Unavailable(format!("{message}; raise `max_connections`, or start fewer nodes")),
        "53100" => Verdict::Unavailable(format!("the server's disk is full; make room there ({message})")),
        "55P03" => Verdict::Unavailable(format!("{message}: somebody holds a lock; end that transaction")),
        code => match code.get(..2).unwrap_or_default() {
            // Connections, rollbacks (deadlock, serialization), resources, an operator who stops the server, the system.
            "08" | "40" | "53" | "55" | "57" | "58" | "25" => Verdict::Unavailable(message),
            _ => Verdict::Refused(message),
        },
    }
}

/// Error numbers: <https://mariadb.com/kb/en/mariadb-error-codes/> and
/// <https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html>.
fn mysql(error: &MySqlDatabaseError) -> Verdict {
    let message = error.message().to_owned();
    match error.number() {
        1044 => Verdict::Unusable(format!(
            "{message}; is there such a database, and has this user rights on it? `docs/databases.md` has the GRANTs"
        )),
        1045 | 1698 | 2061 => Verdict::Unusable(format!(
            "{message}; check user and password in the database's URL (characters such as `@`, `/` and `#` are written \
                 percent-encoded there), and the user's host; a server that wants TLS answers so, too, where the URL says \
                 `ssl-mode=DISABLED`, and so it does when the account that made the tables was dropped (create it \
                 again: `docs/databases.md`)"
        )),
        3159 => Verdict::Unusable(format!(
            "{message}; leave `ssl-mode` out of the URL, or write `ssl-mode=VERIFY_IDENTITY&ssl-ca=/path/to/ca.pem`"
        )),
        1449 => Verdict::Unusable(format!(
            "{message}: it made the tables and was dropped since; create that account again, with its rights \
             (`docs/databases.md`)"
        )),
        1049 => {
            Verdict::Unusable(format!("{message}; make it first (CREATE DATABASE), or name another one in the URL"))
        }
        1142 | 1143 | 1227 | 1370 => Verdict::Unusable(format!("{message}; {RIGHTS}")),
        1419 => Verdict::Unusable(format!(
            "{message}; with a binary log, triggers need `SET GLOBAL log_bin_trust_function_creators = 1`, or a user with \
             SUPER; then run `watchbell migrate` again, which goes on where this stopped"
        )),
        1146 | 1054 | 1305 => Verdict::Unusable(format!(
            "{message}; the tables are not there, or not those of this version: `watchbell migrate` makes them"
        )),
        1290 | 1836 => {
            Verdict::Unavailable(format!("{message}: this server is a replica, or read-only; name the primary"))
        }
        1040 | 1203 => Verdict::Unavailable(format!("{message}; raise `max_connections`, or start fewer nodes")),
        1021 | 1114 => Verdict::Unavailable(format!("the server's disk is full; make room there ({message})")),
        // Lock wait, deadlock (1467: while it waited for the next id), shutdown, killed, out of resources, connection
        // lost, record changed (MariaDB 10.11).
        1020
        | 1205
        | 1213
        | 1467
        | 1053
        | 1317
        | 1037
        | 1038
        | 1041
        | 1135
        | 1152
        | 1158..=1161
        | 1180
        | 1184
        | 1927
        | 2006
        | 2013
        | 3024
        | 3572
        | 4031 => Verdict::Unavailable(message),
        _ => Verdict::Refused(message),
    }
}

const RIGHTS: &str = "this user lacks the right; `docs/databases.md` has the GRANTs that Watchbell needs";

/// Whether another program holds SQLite's lock.
pub(in crate::store) fn is_busy(error: &Error) -> bool {
    let Error::Database(database) = error else { return false };
    matches!(sqlite_primary(database.as_ref()), Some(sqlite_code::BUSY | sqlite_code::LOCKED))
}

/// Whether a server ended the transaction since it and another one waited for each other.
pub(in crate::store) fn is_deadlock(error: &Error) -> bool {
    let Error::Database(database) = error else { return false };
    let is_of_postgres = database.try_downcast_ref::<PgDatabaseError>().is_some_and(|error| error.code() == "40P01");
    // 1467 is what an INSERT says that was the victim while it waited for the lock on the table's next id.
    let is_of_mysql =
        database.try_downcast_ref::<MySqlDatabaseError>().is_some_and(|error| matches!(error.number(), 1213 | 1467));
    is_of_postgres || is_of_mysql
}

fn sqlite_primary(error: &dyn DatabaseError) -> Option<u32> {
    error.code()?.parse::<u32>().ok().map(|extended| extended & 0xff)
}
