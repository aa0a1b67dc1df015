//! What a step did, read from the tables, in the words of the lines below a step.

use anyhow::{Result, bail, ensure};
use watchbell::ports::Store;

use super::script::Step;
use super::world::World;

impl World {
    pub(super) async fn state_and_told(&mut self) -> Result<String> {
        let told = self.told().await?;
        let select = format!(
            "SELECT state, consecutive_ok_count, consecutive_alert_count, config_error, last_run_at IS NULL \
             FROM monitors WHERE id = {}",
            self.monitor
        );
        let Some(row) = self.person.read(&select).await?.pop() else { return Ok(format!("row gone, {told}")) };
        let [Some(state), Some(oks), Some(failures), config_error, Some(is_asked_for)] = &row[..] else {
            bail!("{row:?} is no row of a monitor");
        };
        let mut text = format!("state {state}");
        if oks != "0" {
            text.push_str(&format!(" (oks {oks})"));
        }
        if failures != "0" {
            text.push_str(&format!(" (failures {failures})"));
        }
        text.push_str(&format!(", {told}"));
        if let Some(error) = config_error {
            text.push_str(&format!(", config_error {error}"));
        }
        if is_asked_for == "1" {
            text.push_str(", a check is asked for");
        }
        Ok(text)
    }

    /// Who was told what since the last step, in the order of the outbox.
    async fn told(&mut self) -> Result<String> {
        let rows = self.unreported("type, recipient").await?;
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
        let messages = self.unreported("subject, body").await?;
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

    /// Two columns of the notifications that no step has reported.
    async fn unreported(&mut self, columns: &str) -> Result<Vec<(String, String)>> {
        let select = format!("SELECT {columns} FROM notifications WHERE id > {} ORDER BY id", self.reported);
        let rows = self.person.read(&select).await?.into_iter();
        rows.map(|row| match <[_; 2]>::try_from(row) {
            Ok([Some(first), Some(second)]) => Ok((first, second)),
            other => bail!("{other:?} is no row of two texts"),
        })
        .collect()
    }

    pub(super) async fn newest_notification(&mut self) -> Result<i64> {
        Ok(self.person.value("SELECT coalesce(max(id), 0) FROM notifications").await?.parse()?)
    }

    pub(super) async fn check_that_state_and_incident_agree(&self) -> Result<()> {
        let mismatched = self.store.mismatched(1).await?;
        ensure!(mismatched.is_empty(), "the state and the open incident do not agree after this step");
        Ok(())
    }
}

/// A row of an answer.
pub(super) fn shown(row: Vec<Option<String>>) -> String {
    let values = row.into_iter().map(|value| value.unwrap_or_else(|| "NULL".to_owned()));
    values.collect::<Vec<_>>().join(" | ")
}
