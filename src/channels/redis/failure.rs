//! What can go wrong with a Redis server, and what a person can do about it.

use redis::{ErrorKind, RedisError};

use crate::domain::one_line;
use crate::ports::DeliveryError;

/// What of a server's words stands in errors.
const MAX_SHOWN_CHARS: usize = 300;

/// Why nothing came of a command.
#[derive(Debug)]
pub(super) enum Failure {
    /// The address itself is wrong; the text quotes nothing of it.
    Address(&'static str),
    /// No connection, or no TLS.
    Stream(std::io::Error),
    /// The server did not answer in time.
    TooSlow,
    /// The server refused, or went away.
    Redis(RedisError),
}

impl Failure {
    /// Whether the connection ended under the command, rather than the server refusing or being slow.
    pub(super) fn is_broken_connection(&self) -> bool {
        matches!(self, Self::Redis(error) if !is_answer(error))
    }

    /// As the engine needs it. `while_connecting`: no message was handed over yet, so that it concerns all of them.
    pub(super) fn told(&self, while_connecting: bool, secrets: &[&str]) -> DeliveryError {
        let (mut reason, hint) = match self {
            Self::Address(problem) => (
                format!("the channel's `url` {problem}"),
                Some("it is `redis://user:password@host:6379/0`, or `rediss://` over TLS"),
            ),
            Self::Stream(error) => (format!("the Redis server cannot be reached: {error}"), stream_hint(error)),
            Self::TooSlow => ("the Redis server did not answer in time".to_owned(), None),
            Self::Redis(error) if is_answer(error) => {
                (format!("the Redis server answered: {}", words(error)), answer_hint(&words(error)))
            }
            Self::Redis(error) => (format!("the connection to the Redis server broke: {error}"), None),
        };
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            reason = reason.replace(secret, "***");
        }
        let mut reason = one_line(&reason, MAX_SHOWN_CHARS).into_owned();
        if let Some(hint) = hint {
            reason.push_str(&format!(" ({hint})"));
        }
        match self {
            Self::Redis(error) if is_answer(error) && !while_connecting && !concerns_all(&words(error)) => {
                DeliveryError::Retry { reason, after: None }
            }
            _ => DeliveryError::Unavailable { reason, after: None },
        }
    }
}

/// Whether the server said it, rather than the connection.
fn is_answer(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// `WRONGPASS invalid username-password pair`: the code first, as Redis says it.
fn words(error: &RedisError) -> String {
    let code = error.code().unwrap_or("ERR");
    match error.detail() {
        Some(detail) => format!("{code} {detail}"),
        None => code.to_owned(),
    }
}

/// It has no code of its own.
const TOO_MANY_CLIENTS: &str = "max number of clients";

/// Whether a refusal in these words would be the same for every message: until a person, a failover or time mends it.
fn concerns_all(words: &str) -> bool {
    const CODES: [&str; 16] = [
        "NOAUTH",
        "DENIED",
        "WRONGPASS",
        "NOPERM",
        "LOADING",
        "READONLY",
        "OOM",
        "MASTERDOWN",
        "NOREPLICAS",
        "MISCONF",
        "BUSY",
        "CLUSTERDOWN",
        "TRYAGAIN",
        "MOVED",
        "CROSSSLOT",
        "WRONGTYPE",
    ];
    let code = words.split(' ').next().unwrap_or_default();
    CODES.contains(&code) || is_forbidden_in_script(words) || words.contains(TOO_MANY_CLIENTS)
}

/// Redis 7.0 gives a script's missing right no code of its own.
fn is_forbidden_in_script(words: &str) -> bool {
    words.contains("user executing the script can't")
}

fn answer_hint(words: &str) -> Option<&'static str> {
    match words.split(' ').next().unwrap_or_default() {
        "NOAUTH" => Some("the server wants a password: `redis://:password@host` or `redis://user:password@host`"),
        "WRONGPASS" => Some("check user and password in the channel's `url`"),
        "NOPERM" => Some(RIGHTS),
        _ if is_forbidden_in_script(words) => Some(RIGHTS),
        "READONLY" => Some("this server is a replica; the channel needs the primary"),
        "OOM" => Some("the server has reached its `maxmemory`"),
        "MOVED" | "CROSSSLOT" => Some("Redis Cluster is not supported"),
        "WRONGTYPE" => Some("the key that `stream` names holds something else"),
        _ => None,
    }
}

const RIGHTS: &str =
    "the user needs `+publish` and `&<channel>`; for a stream also `+eval +get +xadd +set` and `~<stream>*`";

fn stream_hint(error: &std::io::Error) -> Option<&'static str> {
    let is_untrusted = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match is_untrusted {
        Some(rustls::Error::InvalidCertificate(_)) => {
            Some("a private authority's certificate belongs into `channels.ca_file`")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use redis::RedisError;

    use super::Failure;
    use crate::ports::DeliveryError;

    fn answered(code: &str, detail: &str) -> Failure {
        Failure::Redis(redis::make_extension_error(code.to_owned(), Some(detail.to_owned())))
    }

    #[test]
    fn what_concerns_all_messages_is_told_from_what_concerns_one() {
        let told = |failure: Failure| failure.told(false, &[]);
        for (code, detail) in [
            ("NOAUTH", "Authentication required."),
            ("LOADING", "Redis is loading the dataset in memory"),
            ("DENIED", "Redis is running in protected mode"),
            ("ERR", "max number of clients reached"),
            ("ERR", "The user executing the script can't run this command or subcommand script: 0a"),
        ] {
            assert!(matches!(told(answered(code, detail)), DeliveryError::Unavailable { .. }), "{code} {detail}");
        }
        assert!(matches!(told(answered("ERR", "value is not an integer")), DeliveryError::Retry { .. }));
        // Before a message was handed over, nothing can be its fault.
        let connecting = answered("ERR", "DB index is out of range").told(true, &[]);
        assert!(matches!(connecting, DeliveryError::Unavailable { .. }));
    }

    #[test]
    fn secrets_are_hidden_whoever_repeats_them() {
        let broken = || std::io::Error::other("no s3cret here");
        for failure in
            [answered("ERR", "no s3cret here"), Failure::Stream(broken()), Failure::Redis(RedisError::from(broken()))]
        {
            let told = failure.told(true, &["", "s3cret"]).to_string();
            assert!(told.contains("no *** here"), "{told}");
        }
    }
}
