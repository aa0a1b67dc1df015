//! Whether the tables are those of this version, and what is wrong when they cannot be brought up to date.

use sqlx::migrate::{MigrateError, Migrator};

use super::database;
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
                    "steps are missing, and they cannot be applied: {reason}; `watchbell migrate` applies them, with the \
                     `--database-url` of a user who may make tables"
                )),
                other => other,
            }
        }
        other => unusable(other.to_string()),
    }
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
