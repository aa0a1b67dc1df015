//! Whose database it is: a name that all nodes of an installation share.

use super::database::{Database, explain, query};
use crate::ports::StoreError;

/// What a database is called to which nobody gave a name.
const UNNAMED: &str = "watchbell";

/// Gives the database the name, where it has none of its own yet and nothing was ever registered in it. Returns the name
/// that it has then.
pub(super) async fn claim(database: &Database, name: &str) -> Result<String, StoreError> {
    let explain = |error: sqlx::Error| explain("give the database the installation's name", &error);
    let found = self::name(database).await?;
    if found == name {
        return Ok(found);
    }
    query(
        "UPDATE installation SET name = ?1 WHERE id = 1 AND name = 'watchbell' AND NOT EXISTS (SELECT 1 FROM nodes) \
         AND NOT EXISTS (SELECT 1 FROM monitors) AND NOT EXISTS (SELECT 1 FROM monitor_runs)",
    )
    .bind(name)
    .execute(database)
    .await
    .map_err(explain)?;
    self::name(database).await
}

/// The name of the installation that the database belongs to, where `name` must not write to it.
pub(super) async fn other_owner(database: &Database, name: &str) -> Result<Option<String>, StoreError> {
    let found = self::name(database).await?;
    let is_ours = found == name || (found == UNNAMED && !is_in_use(database).await?);
    Ok((!is_ours).then_some(found))
}

/// Whether anything was ever registered in it: then it keeps its name.
async fn is_in_use(database: &Database) -> Result<bool, StoreError> {
    let used = query(
        "SELECT id FROM installation WHERE id = 1 AND (EXISTS (SELECT 1 FROM nodes) \
         OR EXISTS (SELECT 1 FROM monitors) OR EXISTS (SELECT 1 FROM monitor_runs))",
    );
    let used = used.fetch_optional(database).await;
    Ok(used.map_err(|error| explain("look whether anything is registered in the database", &error))?.is_some())
}

/// The name that the database has.
async fn name(database: &Database) -> Result<String, StoreError> {
    let explain = |error: sqlx::Error| explain("read the installation's name", &error);
    let row = query("SELECT name FROM installation WHERE id = 1").fetch_one(database).await.map_err(explain)?;
    row.text("name").map_err(explain)
}
