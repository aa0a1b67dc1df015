//! How a MySQL or MariaDB server is set up, and what this user may do there.

use sqlx::Error;

use crate::store::database::{Database, Row, query};
use crate::store::findings::{DatabaseFinding, RIGHTS};

/// Older ones lack what our statements use: [MariaDB, MySQL].
const OLDEST: [(u32, u32, u32); 2] = [(10, 6, 0), (8, 0, 21)];
/// A batch of outcomes with long messages.
const PACKET: i64 = 16 * 1024 * 1024;
const CONNECTIONS_OF_ONE_NODE: i64 = 8;
const COMMAND_DENIED: u16 = 1142;
const COLUMN_DENIED: u16 = 1143;
const VIEW_DENIED: u16 = 1370;

const SETTINGS: &str = "\
    SELECT version() AS version, CAST(@@GLOBAL.log_bin AS SIGNED) AS log_bin, \
      CAST(@@GLOBAL.log_bin_trust_function_creators AS SIGNED) AS trusts_creators, \
      CAST(@@GLOBAL.innodb_flush_log_at_trx_commit AS SIGNED) AS flush_log, \
      CAST(@@GLOBAL.sync_binlog AS SIGNED) AS sync_binlog, CAST(@@GLOBAL.sql_mode AS CHAR) AS sql_mode, \
      CAST(@@GLOBAL.max_allowed_packet AS SIGNED) AS packet, CAST(@@GLOBAL.read_only AS SIGNED) AS is_read_only, \
      CAST(@@GLOBAL.max_connections AS SIGNED) AS connections";
/// Of whom the triggers are of which everybody's writes depend; who may not see them sees none.
const DEFINERS: &str = "\
    SELECT DISTINCT CAST(definer AS CHAR) AS definer FROM information_schema.triggers WHERE trigger_schema = database()";
const IS_THERE: &str = "SELECT count(*) AS accounts FROM mysql.user WHERE concat(user, '@', host) = ?1";
const CONNECTED: &str = "SELECT CAST(variable_value AS SIGNED) AS connected FROM information_schema.global_status \
    WHERE variable_name = 'THREADS_CONNECTED'";
const CONNECTED_MYSQL: &str = "SELECT CAST(variable_value AS SIGNED) AS connected FROM performance_schema.global_status \
    WHERE variable_name = 'Threads_connected'";

pub(in crate::store) async fn findings(database: &Database) -> Result<Vec<DatabaseFinding>, Error> {
    let settings = query(SETTINGS).fetch_one(database).await?;
    let version = settings.text("version")?;
    let mut findings = vec![of_version(&version)];
    findings.extend(durability(&settings)?);
    findings.extend(triggers(&settings)?);
    findings.extend(others(&settings)?);
    findings.extend(definers(database).await?);
    let connected = query(if is_mariadb(&version) { CONNECTED } else { CONNECTED_MYSQL });
    // Not everybody may ask.
    if let Ok(Some(row)) = connected.fetch_optional(database).await {
        findings.extend(connections(settings.int("connections")?, row.int("connected")?));
    }
    Ok(findings)
}

fn is_mariadb(version: &str) -> bool {
    version.to_lowercase().contains("mariadb")
}

fn of_version(version: &str) -> DatabaseFinding {
    let (name, oldest) = if is_mariadb(version) { ("MariaDB", OLDEST[0]) } else { ("MySQL", OLDEST[1]) };
    // An old MariaDB says that it is 5.5.5 first, for clients of its time.
    let own = version.strip_prefix("5.5.5-").unwrap_or(version);
    let own = own.split('-').next().unwrap_or(own);
    let mut numbers = own.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    if (next(), next(), next()) < oldest {
        let (major, minor, patch) = oldest;
        DatabaseFinding::warning(
            format!(
                "this is {name} {own}, and Watchbell needs {major}.{minor}.{patch} or newer: statements may be refused"
            ),
            "upgrade the server",
        )
    } else {
        DatabaseFinding::ok(format!("{name} {own}"))
    }
}

fn durability(settings: &Row) -> Result<Vec<DatabaseFinding>, Error> {
    let mut findings = Vec::new();
    let flush = settings.int("flush_log")?;
    if flush != 1 {
        findings.push(DatabaseFinding::warning(
            format!(
                "`innodb_flush_log_at_trx_commit` is {flush}: when the server crashes, a commit that was reported may be lost, \
                 so that an alert is told twice or a run is missing"
            ),
            "SET GLOBAL innodb_flush_log_at_trx_commit = 1, and the same in the server's configuration",
        ));
    }
    let sync = settings.int("sync_binlog")?;
    if settings.flag("log_bin")? && sync != 1 {
        findings.push(DatabaseFinding::warning(
            format!(
                "`sync_binlog` is {sync}: when the server crashes, its replicas may know more than it does, or less"
            ),
            "SET GLOBAL sync_binlog = 1, and the same in the server's configuration",
        ));
    }
    Ok(findings)
}

fn triggers(settings: &Row) -> Result<Option<DatabaseFinding>, Error> {
    let is_distrustful = settings.flag("log_bin")? && !settings.flag("trusts_creators")?;
    Ok(is_distrustful.then(|| {
        // It is so as it should be, between two upgrades.
        DatabaseFinding::ok(
            "a binary log is written and `log_bin_trust_function_creators` is 0: before an upgrade, SET GLOBAL \
             log_bin_trust_function_creators = 1, or run `watchbell migrate` as a user with SUPER (else error 1419)",
        )
    }))
}

fn others(settings: &Row) -> Result<Vec<DatabaseFinding>, Error> {
    let mut findings = Vec::new();
    let mode = settings.text("sql_mode")?;
    if !mode.contains("STRICT_TRANS_TABLES") && !mode.contains("STRICT_ALL_TABLES") {
        findings.push(DatabaseFinding::warning(
            "`sql_mode` is not strict: what people INSERT and does not fit is bent until it does, such as a time that is none \
             into year 0",
            "SET GLOBAL sql_mode = concat(@@GLOBAL.sql_mode, ',STRICT_TRANS_TABLES'), and the same in the server's configuration",
        ));
    }
    let packet = settings.int("packet")?;
    if packet < PACKET {
        findings.push(DatabaseFinding::warning(
            format!(
                "`max_allowed_packet` is {} KiB: a batch of runs with long messages may be refused as too large",
                packet / 1024
            ),
            "SET GLOBAL max_allowed_packet = 67108864, and the same in the server's configuration",
        ));
    }
    if settings.flag("is_read_only")? {
        findings.push(DatabaseFinding::problem(
            "`read_only` is on: this server is a replica, or was switched so, and takes no writes of ordinary users",
            "name the primary in `database_url`",
        ));
    }
    Ok(findings)
}

async fn definers(database: &Database) -> Result<Vec<DatabaseFinding>, Error> {
    let mut findings = Vec::new();
    for row in query(DEFINERS).fetch_all(database).await? {
        // Hidden from who may not change the triggers.
        let Some(definer) = row.optional_text("definer")? else { continue };
        // Only some may read the accounts; for the others a write says it (error 1449).
        let Ok(accounts) = query(IS_THERE).bind(&definer).fetch_one(database).await else { continue };
        if accounts.int("accounts")? == 0 {
            findings.push(DatabaseFinding::problem(
                format!("the triggers run with the rights of `{definer}`, and there is no such account: every write is refused"),
                "create that account again, with its rights (docs/databases.md); it need not be able to log in",
            ));
        }
    }
    Ok(findings)
}

fn connections(connections: i64, connected: i64) -> Option<DatabaseFinding> {
    (connections - connected < CONNECTIONS_OF_ONE_NODE).then(|| {
        DatabaseFinding::warning(
            format!(
                "{connected} of {connections} connections (`max_connections`) are taken: a node that starts, or connects \
                 again, may find none"
            ),
            "SET GLOBAL max_connections to more, and the same in the server's configuration",
        )
    })
}

/// By statements that touch no row: only the server knows what roles and grants of all levels come to.
pub(in crate::store) async fn missing_rights(database: &Database) -> Result<Vec<String>, Error> {
    let mut missing = Vec::new();
    for (table, rights) in RIGHTS {
        for right in rights {
            let statement = match *right {
                "INSERT" => {
                    format!("INSERT INTO {table} ({0}) SELECT {0} FROM {table} WHERE 1 = 0", first_column(table))
                }
                "UPDATE" => format!("UPDATE {table} SET {0} = {0} WHERE 1 = 0", first_column(table)),
                "DELETE" => format!("DELETE FROM {table} WHERE 1 = 0"),
                _ => format!("SELECT 1 FROM {table} WHERE 1 = 0"),
            };
            match query(statement).execute(database).await {
                Err(Error::Database(error)) if is_denial(error.as_ref()) => missing.push(format!("{right} on {table}")),
                // Columns without a default are missed, but the right was there.
                Ok(_) | Err(Error::Database(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(missing)
}

fn first_column(table: &str) -> &'static str {
    match table {
        "dependencies" => "child_id",
        "monitor_run_hours" | "monitor_run_days" => "monitor_id",
        _ => "id",
    }
}

fn is_denial(error: &dyn sqlx::error::DatabaseError) -> bool {
    error
        .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
        .is_some_and(|error| [COMMAND_DENIED, COLUMN_DENIED, VIEW_DENIED].contains(&error.number()))
}

#[cfg(test)]
mod tests {
    use super::of_version;
    use crate::store::FindingLevel;

    #[test]
    fn versions_are_told_apart() {
        for (version, level, name) in [
            ("10.11.19-MariaDB-0+deb12u1-log", FindingLevel::Ok, "MariaDB"),
            ("5.5.5-10.5.1-MariaDB", FindingLevel::Warning, "MariaDB 10.5"),
            ("8.0.20", FindingLevel::Warning, "MySQL"),
            ("8.0.36-0ubuntu0", FindingLevel::Ok, "MySQL"),
            ("8.4.0", FindingLevel::Ok, "MySQL"),
        ] {
            let finding = of_version(version);
            assert_eq!(finding.level, level, "{version}");
            assert!(finding.text.contains(name), "{}", finding.text);
        }
    }
}
