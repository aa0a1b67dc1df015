//! What a step did, read from the tables, in the words of the lines below a step.

use anyhow::{Result, ensure};
use sqlx::sqlite::SqliteRow;
use sqlx::{Column, Row, ValueRef};
use watchbell::ports::Store;

use super::script::Step;
use super::world::World;

impl World {
    pub(super) async fn state_and_told(&mut self) -> Result<String> {
        let told = self.told().await?;
        let row = sqlx::query(
            "SELECT state, consecutive_ok_count, consecutive_alert_count, config_error, last_run_at IS NULL \
             FROM monitors WHERE id = ?",
        )
        .bind(self.monitor.0)
        .fetch_optional(&mut self.person)
        .await?;
        let Some(row) = row else { return Ok(format!("row gone, {told}")) };
        let (oks, failures): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
        let mut text = format!("state {}", row.try_get::<&str, _>(0)?);
        if oks > 0 {
            text.push_str(&format!(" (oks {oks})"));
        }
        if failures > 0 {
            text.push_str(&format!(" (failures {failures})"));
        }
        text.push_str(&format!(", {told}"));
        if let Some(error) = row.try_get::<Option<&str>, _>(3)? {
            text.push_str(&format!(", config_error {error}"));
        }
        if row.try_get::<bool, _>(4)? {
            text.push_str(", a check is asked for");
        }
        Ok(text)
    }

    /// Who was told what since the last step, in the order of the outbox.
    async fn told(&mut self) -> Result<String> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT type, recipient FROM notifications WHERE id > ? ORDER BY id")
                .bind(self.reported)
                .fetch_all(&mut self.person)
                .await?;
        let mut told: Vec<(String, Vec<String>)> = Vec::new();
        for (kind, recipient) in rows {
            match told.last_mut() {
                Some((last, recipients)) if *last == kind => recipients.push(recipient),
                _ => told.push((kind, vec![recipient])),
            }
        }
        if told.is_empty() {
            return Ok("told nobody".to_owned());
        }
        let parts = told.iter().map(|(kind, recipients)| format!("told {kind} to {}", recipients.join(", ")));
        Ok(parts.collect::<Vec<_>>().join(", "))
    }

    /// Subjects and the first body, where the script asks for them.
    pub(super) async fn add_messages(&mut self, step: &Step, found: &mut Vec<String>) -> Result<()> {
        let messages: Vec<(String, String)> =
            sqlx::query_as("SELECT subject, body FROM notifications WHERE id > ? ORDER BY id")
                .bind(self.reported)
                .fetch_all(&mut self.person)
                .await?;
        if step.expected.iter().any(|line| line.starts_with("subject")) {
            let mut subjects: Vec<&String> = messages.iter().map(|(subject, _)| subject).collect();
            subjects.dedup();
            found.extend(subjects.iter().map(|subject| format!("subject {subject}")));
        }
        if step.expected.iter().any(|line| line.starts_with('|')) {
            let body = messages.first().map_or("", |(_, body)| body);
            found.extend(body.lines().map(|line| format!("| {line}").trim_end().to_owned()));
        }
        Ok(())
    }

    pub(super) async fn newest_notification(&mut self) -> Result<i64> {
        let newest = sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM notifications");
        Ok(newest.fetch_one(&mut self.person).await?)
    }

    pub(super) async fn check_that_state_and_incident_agree(&self) -> Result<()> {
        let mismatched = self.store.mismatched(1).await?;
        ensure!(mismatched.is_empty(), "the state and the open incident do not agree after this step");
        Ok(())
    }
}

/// A row of an answer.
pub(super) fn shown(row: &SqliteRow) -> Result<String> {
    let mut values = Vec::new();
    for column in row.columns() {
        let at = column.ordinal();
        values.push(if row.try_get_raw(at)?.is_null() {
            "NULL".to_owned()
        } else {
            row.try_get::<String, _>(at).or_else(|_| row.try_get::<i64, _>(at).map(|number| number.to_string()))?
        });
    }
    Ok(values.join(" | "))
}
