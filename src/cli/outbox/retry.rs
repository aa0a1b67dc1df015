//! `watchbell outbox retry`: what was given up is sent again, where it would still be true.

use std::io::Write as _;

use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use crate::cli::FileFlag;
use crate::cli::answer::{Answer, Status};
use crate::cli::installation::Installation;
use crate::domain::NotificationId;
use crate::ports::Retried;

/// One transaction: some milliseconds, so that no run waits for it.
const BATCH: u32 = 500;
/// So many refusals are told one by one; the rest is counted.
const MOST_TOLD: usize = 20;

/// What follows `outbox retry`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["ids", "all", "recipient"]).multiple(true)))]
#[command(
    after_help = "A notification is sent again only where it would still be true: an alert whose recovery was sent \
    stays given up; one whose recovery waits is told by that recovery. Exit status: 0 where all of them go out again, \
    1 where any does not."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: FileFlag,
    /// Ids of notifications, as `watchbell outbox` lists them
    #[arg(value_name = "ID", conflicts_with_all = ["all", "recipient"])]
    ids: Vec<i64>,
    /// All that was given up
    #[arg(long)]
    all: bool,
    /// All that was given up to this recipient
    #[arg(long)]
    recipient: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Puts notifications back into the outbox; a node sends them.
///
/// # Errors
/// When the database cannot be read or written.
pub(super) async fn retry(arguments: &Arguments, installation: &Installation) -> anyhow::Result<Answer> {
    let answers = match arguments.ids.is_empty() {
        false => {
            let ids: Vec<NotificationId> = arguments.ids.iter().copied().map(NotificationId).collect();
            retry_these(&ids, installation).await?
        }
        true => retry_all(arguments.recipient.as_deref(), installation).await?,
    };
    let is_served = !installation.store.live_nodes().await?.nodes.is_empty();
    let all_go = answers.iter().all(|(_, answer)| answer.is_ok());
    let status = if all_go { Status::Done } else { Status::Failed };
    let answer = match arguments.json {
        true => Answer::of_json(&as_json(&answers))?,
        false => Answer::of_text(as_text(&answers, is_served)),
    };
    Ok(answer.with_status(status))
}

type Answered = (NotificationId, Result<Vec<NotificationId>, String>);

async fn retry_all(recipient: Option<&str>, installation: &Installation) -> anyhow::Result<Vec<Answered>> {
    let mut answers = Vec::new();
    let mut after = NotificationId(i64::MIN);
    loop {
        let ids = installation.store.given_up(recipient, after, BATCH).await?;
        let Some(last) = ids.last() else { return Ok(answers) };
        after = *last;
        answers.extend(retry_these(&ids, installation).await?);
        if ids.len() == BATCH as usize {
            // A long wait without a sign looks like a hang. Nobody to read it is no failure.
            drop(writeln!(std::io::stderr(), "{} looked at, the search goes on", answers.len()));
        }
    }
}

async fn retry_these(ids: &[NotificationId], installation: &Installation) -> anyhow::Result<Vec<Answered>> {
    let mut answers = Vec::with_capacity(ids.len());
    for batch in ids.chunks(BATCH as usize) {
        let retried = installation.store.retry_notifications(installation.database_time().await?, batch).await?;
        answers.extend(retried.into_iter().map(told));
    }
    Ok(answers)
}

fn told((id, answer): Retried) -> Answered {
    (id, answer.map_err(|refusal| refusal.to_string()))
}

fn as_text(answers: &[Answered], is_served: bool) -> String {
    if answers.is_empty() {
        return "nothing was given up".to_owned();
    }
    let again = answers.iter().filter(|(_, answer)| answer.is_ok()).count();
    let refused: Vec<(&NotificationId, &String)> =
        answers.iter().filter_map(|(id, answer)| Some((id, answer.as_ref().err()?))).collect();
    let mut text = String::new();
    if again > 0 {
        let who = match is_served {
            true => "the node sends what waits",
            false => "nobody serves this database: `watchbell serve` sends what waits",
        };
        let noun = if again == 1 { "notification goes" } else { "notifications go" };
        text.push_str(&format!("{again} {noun} out again; {who}\n"));
    }
    for (id, answer) in answers.iter().take(MOST_TOLD) {
        if let Ok(along) = answer
            && let Some(other) = along.last()
        {
            text.push_str(&format!("notification {}: told together with notification {}\n", id.0, other.0));
        }
    }
    for (id, why) in refused.iter().take(MOST_TOLD) {
        text.push_str(&format!("notification {} stays as it is: {why}\n", id.0));
    }
    if let Some(more @ 1..) = refused.len().checked_sub(MOST_TOLD) {
        text.push_str(&format!("{more} more stay as they are; `--json` tells why\n"));
    }
    text
}

fn as_json(answers: &[Answered]) -> Value {
    let one = |(id, answer): &Answered| {
        let along: Vec<i64> = answer.iter().flatten().map(|id| id.0).collect();
        json!({"id": id.0, "is_retried": answer.is_ok(), "together_with": along, "refused": answer.as_ref().err()})
    };
    answers.iter().map(one).collect()
}
