//! Whose database it is: a name that all nodes of an installation share.

use super::database::{Database, explain, query};
use crate::ports::StoreError;

/// What a database is called to which nobody gave a name.
const UNNAMED: &str = "watchbell";

/// Something was registered in it.
macro_rules! is_in_use {
    () => {
        "(EXISTS (SELECT 1 FROM nodes) OR EXISTS (SELECT 1 FROM monitors) OR EXISTS (SELECT 1 FROM monitor_runs))"
    };
}

/// Gives the database the name, where it has none of its own yet and nothing was ever registered in it. Returns the name
/// that it has then.
pub(super) async fn claim(database: &Database, name: &str) -> Result<String, StoreError> {
    let explain = |error: sqlx::Error| explain("give the database the installation's name", &error);
    if self::name(database).await?.is_some_and(|found| found == name) {
        return Ok(name.to_owned());
    }
    query(concat!("UPDATE installation SET name = ?1 WHERE id = 1 AND name = ?2 AND NOT ", is_in_use!()))
        .bind(name)
        .bind(UNNAMED)
        .execute(database)
        .await
        .map_err(explain)?;
    self::name(database).await?.ok_or_else(|| StoreError::Unusable {
        action: "read the installation's name".to_owned(),
        reason: "the one row of the table `installation` is gone; write it again from a backup".to_owned(),
    })
}

/// The name of the installation that the database belongs to, where `name` must not write to it.
pub(super) async fn other_owner(database: &Database, name: &str) -> Result<Option<String>, StoreError> {
    // Steps that were cut off before they wrote it: then it is nobody's yet.
    let Some(found) = self::name(database).await? else { return Ok(None) };
    let is_ours = found == name || (found == UNNAMED && !is_in_use(database).await?);
    Ok((!is_ours).then_some(found))
}

/// Whether anything was ever registered in it: then it keeps its name.
async fn is_in_use(database: &Database) -> Result<bool, StoreError> {
    let used = query(concat!("SELECT id FROM installation WHERE id = 1 AND ", is_in_use!()));
    let used = used.fetch_optional(database).await;
    Ok(used.map_err(|error| explain("look whether anything is registered in the database", &error))?.is_some())
}

/// The name that the database has; `None`: the row is not there.
async fn name(database: &Database) -> Result<Option<String>, StoreError> {
    let explain = |error: sqlx::Error| explain("read the installation's name", &error);
    let row = query("SELECT name FROM installation WHERE id = 1").fetch_optional(database).await.map_err(explain)?;
    row.map(|row| row.text("name").map_err(explain)).transpose()
}
