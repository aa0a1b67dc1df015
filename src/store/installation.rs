//! Whose database it is: a name that all nodes of an installation share.

use super::database::{Database, explain, query};
use crate::ports::StoreError;

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

/// The name that the database has.
pub(super) async fn name(database: &Database) -> Result<String, StoreError> {
    let explain = |error: sqlx::Error| explain("read the installation's name", &error);
    let row = query("SELECT name FROM installation WHERE id = 1").fetch_one(database).await.map_err(explain)?;
    row.text("name").map_err(explain)
}
