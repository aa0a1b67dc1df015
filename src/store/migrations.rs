//! Whether the tables are those of this version, and what is wrong when they cannot be brought up to date.

use sqlx::migrate::{MigrateError, Migrator};

use super::database::{self, Database};
use super::{copy, installation};
use crate::ports::StoreError;

/// In our words; `database` is how people name it.
pub(super) fn explain(database: &str, error: MigrateError) -> StoreError {
    let action = format!("prepare the tables of `{database}`");
    let unusable = |reason: String| StoreError::Unusable { action: action.clone(), reason };
    match error {
        MigrateError::VersionMissing(version) => unusable(format!(
            "it was written by a newer version of Watchbell (step {version} is unknown here); start that version"
        )),
        MigrateError::VersionMismatch(version) => unusable(format!(
            "its step {version} is not the one that this version knows; was the schema edited by hand?"
        )),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            match database::explain(&action, &error) {
                StoreError::Unusable { reason, .. } => unusable(format!(
                    "steps are missing, and cannot be applied: {reason}{}",
                    match reason.contains("watchbell migrate") {
                        true => "",
                        false =>
                            "; a user who may make tables applies them with `watchbell migrate --database-url ...`",
                    }
                )),
                other => other,
            }
        }
        other => unusable(other.to_string()),
    }
}

/// A step of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its number.
    pub version: i64,
    /// What it is called.
    pub name: String,
}

/// A database that was opened.
pub(super) struct Opened {
    pub(super) database: Database,
    /// The steps that its tables lacked, in their order; they have been applied.
    pub(super) applied: Vec<Step>,
    /// The number of the last step that its tables have.
    pub(super) version: i64,
}

/// The number of the last step that this version knows.
pub(super) fn newest(migrator: &Migrator) -> i64 {
    migrator.iter().map(|step| step.version).max().unwrap_or_default()
}

/// On what condition missing steps are applied.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'n> {
    /// How the installation is called that the database must belong to; `None`: any.
    pub installation: Option<&'n str>,
    /// Whether tables are made where there are none at all.
    pub may_make: bool,
}

/// Refuses to apply steps to what is not this installation's: once they were applied, an older version that serves the other
/// one could not start any more. And refuses to make tables for who only looks: an empty database would tell that all is
/// well.
pub(super) async fn refuse_others(
    database: &Database,
    shown: &str,
    opening: Opening<'_>,
    has_tables: bool,
) -> Result<(), StoreError> {
    if !has_tables {
        return if opening.may_make { Ok(()) } else { Err(no_tables(shown)) };
    }
    let Some(configured) = opening.installation else { return Ok(()) };
    let owner = match installation::other_owner(database, configured).await {
        Err(error @ StoreError::Unavailable { .. }) => return Err(error),
        // The early steps had no name yet; and whose tables may not be read, they cannot be changed either.
        Err(StoreError::Refused { .. } | StoreError::Unusable { .. }) => return Ok(()),
        Ok(owner) => owner,
    };
    // Before the owner is told: a mark of a copy stands in the name, too, and has words of its own.
    copy::refuse_copies(database).await?;
    let Some(found) = owner else { return Ok(()) };
    Err(StoreError::Unusable {
        action: format!("prepare the tables of `{shown}`"),
        reason: format!(
            "the database belongs to the installation `{found}`, and this node is configured for `{configured}`; its tables \
             are of an older version, and were left as they are; name a database of its own (`database_url`), or, if this \
             node belongs to `{found}`, set `installation = \"{found}\"` in its configuration"
        ),
    })
}

fn no_tables(shown: &str) -> StoreError {
    StoreError::Unusable {
        action: format!("use the database `{shown}`"),
        reason: "it holds no tables of Watchbell; is that the right database (and, on PostgreSQL, does the `search_path` lead \
                 to the right schema)? `watchbell migrate` and `watchbell serve` make the tables"
            .to_owned(),
    }
}

/// The steps that are not among those that were applied before.
pub(super) fn missing(migrator: &Migrator, applied: &[AppliedStep]) -> Vec<Step> {
    let is_done = |version| applied.iter().any(|step| step.version == version && step.is_done);
    let missing = migrator.iter().filter(|step| !is_done(step.version));
    missing.map(|step| Step { version: step.version, name: step.description.to_string() }).collect()
}

/// How the tables stand.
pub(super) enum Standing {
    /// As this version needs them.
    UpToDate,
    /// Steps are missing.
    Behind,
}

/// A step as the database remembers it.
pub(super) struct AppliedStep {
    /// Its number.
    pub(super) version: i64,
    /// Of its text.
    pub(super) checksum: Vec<u8>,
    /// Whether it came to its end.
    pub(super) is_done: bool,
}

/// Compares what was applied with what this version knows, without a right to change anything: a service needs none
/// where somebody else migrates.
///
/// # Errors
/// What keeps this version from using, and from migrating, these tables.
pub(super) fn standing(migrator: &Migrator, applied: &[AppliedStep]) -> Result<Standing, MigrateError> {
    for step in applied {
        let known = migrator.iter().find(|known| known.version == step.version);
        match known {
            // MySQL only: it is applied once more.
            _ if !step.is_done => return Ok(Standing::Behind),
            None => return Err(MigrateError::VersionMissing(step.version)),
            Some(known) if *known.checksum != *step.checksum => {
                return Err(MigrateError::VersionMismatch(step.version));
            }
            Some(_) => {}
        }
    }
    Ok(if applied.len() < migrator.iter().count() { Standing::Behind } else { Standing::UpToDate })
}
