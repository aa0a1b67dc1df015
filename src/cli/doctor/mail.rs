//! Whether messages can leave.

use std::path::Path;
use std::time::Duration;

use super::super::database_in_use::DatabaseInUse;
use super::super::installation::{mail_dir, smtp};
use super::finding::Finding;
use crate::channels::SmtpMail;
use crate::config::Configuration;
use crate::ports::Channel as _;

const ABOUT: &str = "mail";
/// A mail server that needs longer for its greeting is in trouble, and a person is waiting.
const PATIENCE: Duration = Duration::from_secs(5);

/// `None` where there is no database.
pub(super) async fn examine(configuration: &Configuration, database: Option<&DatabaseInUse>) -> Vec<Finding> {
    match smtp(configuration) {
        Err(error) => vec![
            Finding::problem(ABOUT, format!("{error:#}"), "correct the key in the configuration").with_hint_of_text(),
        ],
        Ok(Some(server)) => through(&server).await,
        Ok(None) => vec![as_files(database)],
    }
}

async fn through(server: &SmtpMail) -> Vec<Finding> {
    if let Err(fault) = server.prepare().await {
        return vec![Finding::problem(ABOUT, fault.to_string(), "correct `mail.url`").with_hint_of_text()];
    }
    let mut findings = vec![match server.probe(PATIENCE).await {
        Ok(()) => Finding::ok(ABOUT, format!("{}: it answers", server.describe())),
        Err(error) => Finding::problem(
            ABOUT,
            error.to_string(),
            "nothing is lost: what waits is sent when the server answers again; `mail.url` names it",
        )
        .with_hint_of_text(),
    }];
    if server.may_show_password() {
        findings.push(Finding::warning(
            ABOUT,
            "the password of the mail server may travel unencrypted",
            "add `?tls=required` to `mail.url`, or begin it with `smtps://`",
        ));
    }
    findings
}

fn as_files(database: Option<&DatabaseInUse>) -> Finding {
    const HINT: &str = "set `mail.url`, for example `smtp://user:password@mail.example.com?tls=required`";
    let Some(dir) = database.map(mail_dir) else {
        return Finding::warning(ABOUT, "no mail server is configured, so mail is written as files", HINT);
    };
    // Made with the first mail; until then its parent decides.
    let existing = if dir.exists() { dir.as_path() } else { dir.parent().unwrap_or(Path::new(".")) };
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    let shown = std::path::absolute(&dir).unwrap_or(dir.clone());
    match nix::unistd::access(existing, nix::unistd::AccessFlags::W_OK) {
        Ok(()) => Finding::warning(
            ABOUT,
            format!("no mail server is configured: mail is written as files to `{}`", shown.display()),
            HINT,
        ),
        Err(error) => Finding::problem(
            ABOUT,
            format!("no mail server is configured, and `{}` cannot be written to: {}", shown.display(), error.desc()),
            HINT,
        ),
    }
}
