//! Which monitor somebody means: by id, uuid or name.

use super::answer::Trouble;
use crate::domain::{MonitorId, MonitorRow, one_line};
use crate::ports::{Store, StoreError};

/// Names that are compared with an unknown one, so that a large table does not hold up the answer.
const MOST_COMPARED: usize = 20_000;
const PAGE: u32 = 2_000;
/// Enough to know a name by; a row may have 500.
const MOST_NAME_CHARS: usize = 200;
/// Below this likeness (Jaro-Winkler, 0 to 1) a name is no help.
const LEAST_LIKENESS: f64 = 0.75;
const MOST_SUGGESTED: usize = 3;

/// The one monitor that `text` names.
///
/// # Errors
/// When there is none, with near names, or several, with their ids; or when the database cannot be read.
pub(super) async fn monitor(store: &dyn Store, text: &str) -> anyhow::Result<MonitorRow> {
    let mut rows = Vec::new();
    for id in store.find_monitors(text).await? {
        rows.extend(store.monitor(id).await?);
    }
    match rows.len() {
        0 => Err(unknown(store, text).await?.into()),
        1 => Ok(rows.remove(0)),
        _ => Err(ambiguous(text, &rows).into()),
    }
}

/// A monitor as lines for people call it: its id and its name, which may hold anything.
pub(super) fn called(row: &MonitorRow) -> String {
    format!("{} `{}`", row.id, safe_name(row))
}

fn safe_name(row: &MonitorRow) -> std::borrow::Cow<'_, str> {
    one_line(&row.name, MOST_NAME_CHARS)
}

fn ambiguous(text: &str, rows: &[MonitorRow]) -> Trouble {
    let lines: String = rows
        .iter()
        .map(|row| format!("\n  id {}: `{}` (kind `{}`, uuid {})", row.id, safe_name(row), row.kind, row.uuid))
        .collect();
    let is_an_id = text.parse::<i64>().is_ok();
    let hint = if is_an_id { "name it by its uuid" } else { "name it by its id" };
    Trouble::failed(format!("`{text}` names {} monitors:{lines}", rows.len())).hint(hint)
}

async fn unknown(store: &dyn Store, text: &str) -> Result<Trouble, StoreError> {
    let trouble = Trouble::failed(format!("there is no monitor `{text}`"));
    let near = near_names(store, text).await?;
    Ok(match near.is_empty() {
        true => trouble.hint("`watchbell list` shows all; a monitor is named by its id, uuid or name"),
        false => trouble.hint(format!("did you mean {}?", near.join(" or "))),
    })
}

async fn near_names(store: &dyn Store, text: &str) -> Result<Vec<String>, StoreError> {
    let wanted = text.to_lowercase();
    let mut scored: Vec<(f64, String)> = Vec::new();
    let mut after = MonitorId(i64::MIN);
    let mut compared = 0;
    while compared < MOST_COMPARED {
        let page = store.monitors(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        compared += page.len();
        scored.extend(page.iter().map(|row| {
            let near = format!("`{}` (id {})", safe_name(row), row.id);
            (strsim::jaro_winkler(&wanted, &row.name.to_lowercase()), near)
        }));
        scored.retain(|(likeness, _)| *likeness >= LEAST_LIKENESS);
        scored.sort_by(|one, other| other.0.total_cmp(&one.0));
        scored.truncate(MOST_SUGGESTED);
    }
    Ok(scored.into_iter().map(|(_, near)| near).collect())
}
