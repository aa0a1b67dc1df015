//! Why a database could not be asked, in words that hold nothing of the connection's URL.

use std::time::Duration;

/// What was tried when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Reading the URL.
    Url,
    /// Connecting and logging in.
    Connect,
    /// Making the session read-only and bounded.
    Session,
    /// The row's statement.
    Statement,
    /// Everything together took too long.
    Time,
}

/// A failure: the stage and the cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{cause}", match .stage {
    Stage::Url => "its URL cannot be read: ",
    Stage::Connect => "connecting failed: ",
    Stage::Session => "a read-only session could not be had: ",
    Stage::Statement => "the statement failed: ",
    Stage::Time => "",
})]
pub(super) struct Failure {
    pub(super) stage: Stage,
    cause: String,
}

/// The longest text of a server that is repeated, in bytes.
const LONGEST_CAUSE: usize = 1_000;

impl Failure {
    pub(super) fn new(stage: Stage, cause: String) -> Self {
        Self { stage, cause }
    }

    pub(super) fn of(stage: Stage, error: &sqlx::Error) -> Self {
        Self::new(stage, cause(stage, error))
    }

    pub(super) fn timed_out(timeout: Duration) -> Self {
        Self::new(Stage::Time, format!("no answer within the time-out of {} s", timeout.as_secs_f64()))
    }

    /// The server stopped the statement because its time was over.
    pub(super) fn stopped(timeout: Duration) -> Self {
        let cause = format!(
            "the statement was still running near the time-out of {} s and was stopped on the server",
            timeout.as_secs_f64()
        );
        Self::new(Stage::Time, cause)
    }

    /// The same failure with each occurrence of a secret taken out: a server might repeat what it was sent.
    pub(super) fn without(mut self, secrets: &[String]) -> Self {
        for secret in secrets {
            self.cause = self.cause.replace(secret.as_str(), "***");
        }
        self
    }
}

fn cause(stage: Stage, error: &sqlx::Error) -> String {
    let mut text = match error {
        sqlx::Error::Database(database) => match database.code() {
            Some(code) => format!("{} (code {code})", database.message()),
            None => database.message().to_owned(),
        },
        // Why a URL is wrong is told by its reader, which may repeat a part of it.
        sqlx::Error::Configuration(_) if stage == Stage::Url => {
            "it is malformed (hint: `scheme://user:password@host:port/database`, special characters of the password as %XX)"
                .to_owned()
        }
        sqlx::Error::Io(io) => io.to_string(),
        sqlx::Error::Tls(tls) => format!("TLS: {tls}"),
        other => other.to_string(),
    };
    if text.len() > LONGEST_CAUSE {
        text.truncate(text.floor_char_boundary(LONGEST_CAUSE));
        text.push_str("...");
    }
    text
}

/// What must not be shown of a URL: all of it, and its password in each spelling.
pub(super) fn secrets_of(url: &str) -> Vec<String> {
    /// A shorter password is not searched for: it would stand in half of all texts.
    const SHORTEST: usize = 3;
    let mut secrets = vec![url.to_owned()];
    let after = url.split_once("://").map_or("", |(_, after)| after);
    let authority = after.rsplit_once('@').map_or("", |(authority, _)| authority);
    secrets.extend(authority.split_once(':').map(|(_, password)| password.to_owned()));
    let query = url.split_once('?').map_or("", |(_, query)| query);
    secrets.extend(query.split('&').filter_map(|pair| pair.strip_prefix("password=")).map(str::to_owned));
    let decoded: Vec<_> = secrets.iter().skip(1).map(|secret| percent_decoded(secret)).collect();
    secrets.extend(decoded);
    secrets.retain(|secret| secret.len() >= SHORTEST);
    secrets
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Failure, Stage, secrets_of};

    #[test]
    fn a_password_is_taken_out_in_each_spelling() {
        let secrets = secrets_of("postgres://u:p%40ss:w@rd@h/d?password=other");
        let echo = "no such p%40ss:w@rd, p@ss:w@rd or other".to_owned();
        let failure = Failure::new(Stage::Connect, echo).without(&secrets);
        assert_eq!(failure.to_string(), "connecting failed: no such ***, *** or ***");
    }
}
