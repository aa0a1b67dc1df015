//! `watchbell doctor`: what is wrong with this installation, and how to mend it.
//!
//! Each part looks at one thing and returns findings; none of them stops another, and none changes anything. A
//! problem means that something is not watched or nobody is told, and makes the exit status 1.

mod database;
mod delivery;
mod finding;
mod mail;
mod monitors;
mod nodes;
mod secrets;
mod surroundings;

use clap::Args;
use watchbell_contract::Monitor;

use super::FileFlag;
use super::answer::{Answer, Status, hints_of};
use super::installation::{Access, IfMissing, Installation};
use crate::config::{Configuration, ConfigurationFaults};
use finding::{Finding, Level, rendered};

/// What follows `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 where there is no problem, else 1.")]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: FileFlag,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Looks at everything, also where the configuration cannot be used.
///
/// # Errors
/// When the findings cannot be written as JSON.
pub(super) async fn doctor(
    arguments: &Arguments,
    loaded: Result<Configuration, ConfigurationFaults>,
    extra_kinds: Vec<Box<dyn Monitor>>,
) -> anyhow::Result<Answer> {
    let findings = match loaded {
        Ok(configuration) => examine(&configuration, extra_kinds).await,
        Err(faults) => told(&faults),
    };
    let is_well = findings.iter().all(|finding| finding.level < Level::Problem);
    let status = if is_well { Status::Done } else { Status::Failed };
    let answer = match arguments.json {
        true => Answer::of_json(&findings)?,
        false => Answer::of_text(rendered(&findings)),
    };
    Ok(answer.with_status(status))
}

fn told(faults: &ConfigurationFaults) -> Vec<Finding> {
    let finding = |fault: &crate::config::ConfigurationFault| {
        let key = fault.key.as_ref().map(|key| format!("`{key}` ")).unwrap_or_default();
        Finding::problem("configuration", format!("{key}({}): {}", fault.source, fault.problem), &fault.hint)
    };
    faults.0.iter().map(finding).collect()
}

async fn examine(configuration: &Configuration, extra_kinds: Vec<Box<dyn Monitor>>) -> Vec<Finding> {
    let mut findings = surroundings::examine(configuration);
    findings.extend(secrets::connections(configuration).await);
    match Installation::open(configuration.clone(), extra_kinds, IfMissing::Refuse, Access::Read).await {
        Ok(installation) => {
            findings.extend(database::examine(&installation).await);
            findings.extend(nodes::examine(&installation).await);
            findings.extend(mail::examine(configuration, Some(&installation.database)).await);
            findings.extend(monitors::examine(&installation).await);
            findings.extend(delivery::examine(&installation).await);
            findings.extend(secrets::rows(&installation).await);
            installation.store.close().await;
        }
        Err(error) => {
            let hint =
                hints_of(&error).unwrap_or_else(|| "`watchbell config` shows where `database_url` comes from".into());
            findings.push(Finding::problem("database", format!("{error:#}"), hint));
            findings.extend(mail::examine(configuration, None).await);
        }
    }
    findings
}
