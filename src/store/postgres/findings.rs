//! How a PostgreSQL server is set up, and what this role may do there.

use sqlx::Error;

use crate::store::database::{Database, Row, query};
use crate::store::findings::{DatabaseFinding, RIGHTS};

/// Older ones lack what our statements use.
const OLDEST: i64 = 150_000;
/// Below this many free connections one more node may find none.
const CONNECTIONS_OF_ONE_NODE: i64 = 8;

const SETTINGS: &str = "\
    SELECT current_setting('server_version') AS version, current_setting('server_version_num')::bigint AS version_number, \
      current_setting('autovacuum') AS autovacuum, current_setting('synchronous_commit') AS synchronous_commit, \
      current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes, \
      current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint AS connections, \
      (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connected, \
      pg_is_in_recovery() AS is_standby";

/// Of other sessions, as far as this role may see them.
const OLD_TRANSACTIONS: &str = "\
    SELECT pid::bigint AS pid, coalesce(usename, '?')::text AS who, \
      (extract(epoch FROM clock_timestamp() - xact_start) / 60)::bigint AS minutes, coalesce(state, '?') AS state \
    FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' \
      AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL OR state LIKE 'idle in transaction%') \
      AND xact_start < clock_timestamp() - interval '10 minutes' \
    ORDER BY xact_start LIMIT 3";

/// `to_regclass` keeps a table that is not there from being an error.
const RIGHT: &str = "\
    SELECT coalesce(has_table_privilege(to_regclass(quote_ident(current_schema()) || '.' || quote_ident(?1)), ?2), false) \
      AS has_right";
const FUNCTIONS: [&str; 2] =
    ["watchbell_make_run_partitions(timestamptz, integer)", "watchbell_drop_run_partitions(timestamptz)"];
const FUNCTION_RIGHT: &str = "\
    SELECT coalesce(has_function_privilege(to_regprocedure(quote_ident(current_schema()) || '.' || ?1), 'EXECUTE'), false) \
      AS has_right";

pub(in crate::store) async fn findings(database: &Database) -> Result<Vec<DatabaseFinding>, Error> {
    let settings = query(SETTINGS).fetch_one(database).await?;
    let mut findings = of_settings(&settings)?;
    for row in query(OLD_TRANSACTIONS).fetch_all(database).await? {
        findings.push(DatabaseFinding::warning(
            format!(
                "a transaction of `{}` (process {}, {}) is open for {} minutes: until it ends, nothing that was \
                 overwritten since can be cleared away, and the tables grow and become slow",
                row.text("who")?,
                row.int("pid")?,
                row.text("state")?,
                row.int("minutes")?
            ),
            format!("end it in its program, or with `SELECT pg_terminate_backend({})`", row.int("pid")?),
        ));
    }
    findings.extend(pooler(database).await?);
    Ok(findings)
}

fn of_settings(settings: &Row) -> Result<Vec<DatabaseFinding>, Error> {
    let version = settings.text("version")?;
    let mut findings = vec![if settings.int("version_number")? < OLDEST {
        DatabaseFinding::warning(
            format!("this is PostgreSQL {version}, and Watchbell is tested with 15 and newer"),
            "upgrade the server",
        )
    } else {
        DatabaseFinding::ok(format!("PostgreSQL {version}"))
    }];
    if settings.text("autovacuum")? != "on" {
        findings.push(DatabaseFinding::problem(
            "`autovacuum` is off: every run overwrites its monitor's row, and what was overwritten is never cleared away, so \
             the tables grow and become slow",
            "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf();",
        ));
    }
    let synchronous = settings.text("synchronous_commit")?;
    if synchronous == "off" {
        findings.push(DatabaseFinding::warning(
            "`synchronous_commit` is off: when the server crashes, a commit that was reported may be lost, so that an alert \
             is told twice or a run is missing",
            "ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf(); (or ALTER ROLE for this role alone)",
        ));
    }
    for (name, setting) in
        [("fsync", settings.text("fsync")?), ("full_page_writes", settings.text("full_page_writes")?)]
    {
        if setting != "on" {
            findings.push(DatabaseFinding::problem(
                format!("`{name}` is off: when the machine crashes, the whole database may be broken"),
                format!("ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();"),
            ));
        }
    }
    let (connections, connected) = (settings.int("connections")?, settings.int("connected")?);
    if connections - connected < CONNECTIONS_OF_ONE_NODE {
        findings.push(DatabaseFinding::warning(
            format!(
                "{connected} of {connections} connections (`max_connections`) are taken: a node that starts, or connects \
                 again, may find none"
            ),
            "raise `max_connections` and restart the server, or put PgBouncer before it",
        ));
    }
    if settings.flag("is_standby")? {
        findings.push(DatabaseFinding::problem(
            "this server is a standby, on which nothing can be written",
            "name the primary in `database_url`",
        ));
    }
    Ok(findings)
}

/// Two connections that are open at the same time and are one session of the server: somebody stands in between, who
/// gives a connection for a transaction only.
async fn pooler(database: &Database) -> Result<Option<DatabaseFinding>, Error> {
    const WHO: &str = "SELECT pg_backend_pid()::bigint AS pid";
    if database.is_pooled_by_transaction() {
        return Ok(Some(DatabaseFinding::ok("used through a pooler in transaction mode")));
    }
    let (mut one, mut other) = (database.reader().await?, database.reader().await?);
    let one = query(WHO).fetch_one(&mut one).await?.int("pid")?;
    let other = query(WHO).fetch_one(&mut other).await?.int("pid")?;
    Ok((one == other).then(|| {
        DatabaseFinding::problem(
            "a pooler in transaction mode (PgBouncer) stands before the server, and the URL does not say so: prepared \
             statements clash there, and time limits of one connection reach others",
            "add `?pooler=transaction` to `database_url`",
        )
    }))
}

pub(in crate::store) async fn missing_rights(database: &Database) -> Result<Vec<String>, Error> {
    let mut missing = Vec::new();
    for (table, rights) in RIGHTS {
        for right in rights {
            let row = query(RIGHT).bind(table).bind(*right).fetch_one(database).await?;
            if !row.flag("has_right")? {
                missing.push(format!("{right} on {table}"));
            }
        }
    }
    for function in FUNCTIONS {
        let row = query(FUNCTION_RIGHT).bind(function).fetch_one(database).await?;
        if !row.flag("has_right")? {
            missing.push(format!("EXECUTE on {function}"));
        }
    }
    Ok(missing)
}
