//! One fixed statement on a connection, for kinds that know what they ask.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow, bail};
use watchbell_contract::CheckContext;

use super::connect::{Deadlines, Dialect, Target};
use super::failure::secrets_of;
use super::statement::Statement;
use super::{known_connections, no_connection};
use crate::Settings;

/// A row of the answer, by column.
pub(crate) type Row = BTreeMap<String, serde_json::Value>;

/// What a kind asks.
pub(crate) struct Question {
    /// The name of the connection.
    pub(crate) connection: String,
    /// The statement in each dialect.
    pub(crate) statement: fn(Dialect) -> &'static str,
    /// Why Watchbell's own database is not asked, with a hint.
    pub(crate) not_own: &'static str,
}

impl Question {
    /// The rows of the answer.
    ///
    /// # Errors
    /// What failed, with the connection's name and never any part of its URL.
    pub(crate) async fn ask(&self, settings: &Settings, context: &CheckContext) -> anyhow::Result<Vec<Row>> {
        let named = || format!("connection `{}`", self.connection);
        let deadlines = Deadlines::of(context.timeout);
        let Some(connection) = settings.connections.get(&self.connection) else {
            bail!("{} ({})", no_connection(&self.connection), known_connections(settings));
        };
        let url = connection.url.reveal().await.with_context(named)?;
        let secrets = secrets_of(url.as_str());
        let target = Target::read(url.as_str()).map_err(|failure| anyhow!("{}: {failure}", named()))?;
        // An own URL that cannot be read is another place's fault: the node would not have started with it.
        let own = settings.own_database_url.as_deref().map(Target::read);
        if matches!(&own, Some(Ok(own)) if target.is_same_database(own)) {
            bail!("{} is Watchbell's own database, {}", named(), self.not_own);
        }
        let statement = Statement::read((self.statement)(target.dialect()), target.dialect(), None)
            .map_err(|refusal| anyhow!("{}: {refusal}", named()))?;
        let table = target
            .ask(&statement, context, deadlines)
            .await
            .map_err(|failure| anyhow!("{}: {}", named(), failure.without(&secrets)))?;
        let rows = table.for_template().into_iter();
        Ok(rows.map(|row| row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()).collect())
    }
}

/// What is wrong with a name of a connection in a row's config, and a hint; nothing where no connection is configured:
/// that is told when it is asked.
pub(crate) fn connection_fault(settings: &Settings, name: &str) -> Option<(String, String)> {
    let is_known = settings.connections.is_empty() || settings.connections.contains_key(name);
    (!is_known).then(|| (no_connection(name), known_connections(settings)))
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Statement};

    #[test]
    fn what_kinds_ask_passes_the_guard_of_every_database() {
        for dialect in [Dialect::Sqlite, Dialect::Postgres, Dialect::Mysql] {
            let read = Statement::read(crate::watchbell::statement(dialect), dialect, None);
            assert_eq!(read.err(), None, "{dialect:?}");
        }
    }
}
