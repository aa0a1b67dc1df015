//! One check: connect, ask, judge, and say it in a sentence.

use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use serde_json::json;
use watchbell_contract::{Check, CheckContext, Outcome, async_trait};

use super::connect::{Deadlines, Dialect, Target};
use super::failure::{Failure, Stage, secrets_of};
use super::statement::Statement;
use super::template::Template;
use super::value::{Table, shown_time};
use super::verdict::{Criteria, Verdict, shortened};
use super::{known_connections, no_connection};
use crate::{Connection, Settings};

/// How much of a statement stands in a message, in characters.
const SHOWN_STATEMENT: usize = 200;

/// A row that is ready to be asked.
pub(super) struct SqlCheck {
    pub(super) settings: Arc<Settings>,
    pub(super) query: String,
    pub(super) connection: String,
    pub(super) criteria: Criteria,
    pub(super) template: Option<Template>,
}

#[async_trait]
impl Check for SqlCheck {
    async fn check(&self, context: &CheckContext) -> anyhow::Result<Outcome> {
        let deadlines = Deadlines::of(context.timeout);
        let Some(connection) = self.settings.connections.get(&self.connection) else {
            bail!("{} ({})", no_connection(&self.connection), known_connections(&self.settings));
        };
        let url = connection.url.reveal().await.with_context(|| self.named())?;
        let secrets = secrets_of(url.as_str());
        let target = Target::read(url.as_str()).map_err(|failure| anyhow!("{}: {failure}", self.named()))?;
        let closed_schema = self.keep_off_own_database(&target, connection)?;
        let statement = Statement::read(&self.query, target.dialect(), closed_schema.as_deref())
            .map_err(|refusal| anyhow!("{}: {refusal}", self.named()))?;
        let table = target
            .ask(&statement, context, deadlines)
            .await
            .map_err(|failure| self.told(failure.without(&secrets), target.dialect()))?;
        Ok(self.outcome(&table, &statement, context))
    }
}

impl SqlCheck {
    fn named(&self) -> String {
        format!("connection `{}`", self.connection)
    }

    /// Refuses Watchbell's own database. Otherwise the name of its schema, where it lies on the same server.
    fn keep_off_own_database(&self, target: &Target, connection: &Connection) -> anyhow::Result<Option<String>> {
        if connection.allow_own_database {
            return Ok(None);
        }
        // An own URL that cannot be read is another place's fault: the node would not have started with it.
        let Some(Ok(own)) = self.settings.own_database_url.as_deref().map(Target::read) else { return Ok(None) };
        if target.is_same_database(&own) {
            bail!(
                "{} is Watchbell's own database, which is not asked (hint: `allow_own_database = true` in `connections.{}` allows it)",
                self.named(),
                self.connection
            );
        }
        Ok(target.reachable_schema(&own))
    }

    fn told(&self, failure: Failure, dialect: Dialect) -> anyhow::Error {
        let statement = self.shown_query();
        match failure.stage {
            Stage::Statement | Stage::Time => anyhow!("{}: {failure}; statement: {statement}", self.named()),
            Stage::Connect => {
                let database = match dialect {
                    Dialect::Sqlite => "the SQLite file",
                    Dialect::Postgres => "PostgreSQL",
                    Dialect::Mysql => "MySQL",
                };
                anyhow!(
                    "{} ({database}): {failure} (hint: see `connections.{}.url` in the configuration)",
                    self.named(),
                    self.connection
                )
            }
            Stage::Url | Stage::Session => anyhow!("{}: {failure}", self.named()),
        }
    }

    fn shown_query(&self) -> String {
        shortened(&self.query, SHOWN_STATEMENT)
    }

    fn outcome(&self, table: &Table, statement: &Statement, context: &CheckContext) -> Outcome {
        let verdict = self.criteria.judge(table, context.tick);
        let mut sentence = verdict.sentence.clone();
        if statement.uses_since() {
            sentence.push_str(&format!(" (since {})", shown_time(context.since)));
        }
        if !verdict.is_ok {
            sentence.push_str(&format!("; statement: {}", self.shown_query()));
        }
        let (is_ok, message) = match &self.template {
            None => (verdict.is_ok, sentence),
            Some(template) => match template.render(&variables(&verdict, table, context, &sentence)) {
                Ok(message) => (verdict.is_ok, message),
                Err(why) => (false, format!("the message template fails: {why}; without it: {sentence}")),
            },
        };
        let outcome = if is_ok { Outcome::ok(message) } else { Outcome::failed(message) };
        Outcome { metrics: verdict.metrics, ..outcome }
    }
}

fn variables(verdict: &Verdict, table: &Table, context: &CheckContext, sentence: &str) -> serde_json::Value {
    json!({
        "value": verdict.value.for_template(),
        "rows": table.for_template(),
        "row_count": table.count,
        "tick": shown_time(context.tick),
        "since": shown_time(context.since),
        "is_ok": verdict.is_ok,
        "verdict": sentence,
    })
}
