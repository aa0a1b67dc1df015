//! What a failure to send means: the server takes nothing now, this mail later, or never; and the sentence about it
//! for people.
//!
//! Up to the sender's acceptance nothing was said that is this mail's own, and so no failure is this mail's: all mail
//! waits. From the recipient on the mail itself may be the cause, also of a `421`, of silence and of a connection that
//! breaks (a policy, a greylist, a filter that crashes on it): only this one waits, since a mail that was wrongly taken
//! for a dead server would hold up all others, and a server that is really gone shows itself at the next greeting.
//!
//! The sentence holds the server's answer or the chain of causes, never the login: of an answer to a login, words
//! that could be an encoded password are left out, because some servers repeat what they did not understand.

use std::error::Error as _;
use std::time::Duration;

use lettre::transport::smtp::Error;

use super::connections::ConnectError;
use super::send::{SendError, StepError};
use super::url::{Login, MailUrl};
use crate::domain::one_line;
use crate::ports::DeliveryError;

/// An answer is kept in the ledger; a server that writes a novel does not fill it.
pub(super) const MAX_REASON_CHARS: usize = 500;
/// Replies that are about who sends, not about the mail: 530 login needed, 534 and 538 another mechanism needed, 535
/// refused.
const LOGIN_CODES: [u16; 4] = [530, 534, 535, 538];
/// What stands in replies to the recipient that are about the sender: its address (RFC 3463), and in the words of
/// Postfix, which by default keeps all refusals until then.
const SENDER_WORDS: [&str; 5] =
    [" 5.1.7 ", " 5.1.8 ", "Sender address rejected", "Client host rejected", "Helo command rejected"];
/// A word of an answer this long that could be base64 is taken for an encoded secret.
const LONGEST_PLAIN_WORD: usize = 15;

/// A shorter password is part of too many words to be hidden inside them.
const SHORTEST_TELLING_PASSWORD: usize = 4;
/// What stands for a password.
const HIDDEN: &str = "[...]";

/// A failure of the server itself, whatever the mail is.
pub(super) fn unavailable(reason: impl AsRef<str>) -> DeliveryError {
    DeliveryError::Unavailable { reason: one_line(reason.as_ref(), MAX_REASON_CHARS).into_owned(), after: None }
}

/// A failure that another attempt may mend.
pub(super) fn retry(reason: impl AsRef<str>) -> DeliveryError {
    DeliveryError::Retry { reason: one_line(reason.as_ref(), MAX_REASON_CHARS).into_owned(), after: None }
}

/// A failure that no attempt mends.
fn permanent(reason: impl AsRef<str>) -> DeliveryError {
    DeliveryError::Permanent { reason: one_line(reason.as_ref(), MAX_REASON_CHARS).into_owned() }
}

/// The server may be at work with all of them: no reason to stop.
pub(super) fn no_free_connection(max_connections: u32, waited: Duration) -> DeliveryError {
    retry(format!("all {max_connections} connections to the mail server were in use for {} s", waited.as_secs_f32()))
}

/// Before the mail.
pub(super) fn too_slow(url: &MailUrl, waited: Duration) -> DeliveryError {
    unavailable(silence(url, "before it was ready for mail", waited))
}

pub(super) fn slow_secrets(waited: Duration) -> DeliveryError {
    unavailable(format!("mail.url: its secrets could not be read within {} s", waited.as_secs_f32()))
}

/// Before the mail: never the mail's fault.
pub(super) fn of_connecting(url: &MailUrl, error: &ConnectError) -> DeliveryError {
    match error {
        ConnectError::Reach(error) => {
            let cause = without_password(&cause(error), url.login.as_ref());
            let hint = if cause.contains("UnknownIssuer") {
                " (hint: a server with a private certificate authority needs `mail.ca_file`)"
            } else if cause.contains("STARTTLS is not supported") {
                " (hint: with TLS from the first byte the URL begins with `smtps://`)"
            } else {
                ""
            };
            unavailable(format!("the mail server {url} cannot be used: {cause}{hint}"))
        }
        ConnectError::Login(error) => {
            let said = without_secrets(&cause(error), url.login.as_ref());
            unavailable(format!(
                "the mail server {url} refused the login: {said} (hint: user and password in `mail.url`)"
            ))
        }
    }
}

/// While the mail was handed over, within `patience`.
pub(super) fn of_sending(url: &MailUrl, error: &SendError, patience: Duration) -> DeliveryError {
    match error {
        SendError::Sender(StepError::Refused(error)) if error.is_permanent() && !is_login_reply(error) => {
            unavailable(format!("{} (hint: `mail.from`)", refusal(url, "the sender", error)))
        }
        SendError::Sender(StepError::Refused(error)) => unavailable(refusal(url, "the sender", error)),
        SendError::Sender(StepError::Silence) => unavailable(silence(url, "while taking the sender", patience)),
        SendError::Mail(what, StepError::Silence) => retry(silence(url, &format!("while taking {what}"), patience)),
        SendError::Mail(what, StepError::Refused(error)) => {
            let reason = refusal(url, what, error);
            if error.is_permanent() && !is_about_sender(error) { permanent(reason) } else { retry(reason) }
        }
        SendError::NeedsUnicode => {
            permanent(format!("the mail server {url} takes only addresses in ASCII, no others (SMTPUTF8)"))
        }
    }
}

fn refusal(url: &MailUrl, what: &str, error: &Error) -> String {
    format!("the mail server {url} did not take {what}: {}", without_password(&cause(error), url.login.as_ref()))
}

/// An answer as it may be kept and shown, also where a server or what stands behind it repeats the password.
pub(super) fn without_password(text: &str, login: Option<&Login>) -> String {
    let Some(password) = login.map(|login| login.password.as_str()).filter(|password| !password.is_empty()) else {
        return text.to_owned();
    };
    if password.chars().count() >= SHORTEST_TELLING_PASSWORD {
        return text.replace(password, HIDDEN);
    }
    // A letter or two stand in many words; where they stand alone they may be the password.
    let is_it = |word: &str| word.trim_matches(|c: char| c.is_ascii_punctuation()) == password;
    text.split(' ').map(|word| if is_it(word) { HIDDEN } else { word }).collect::<Vec<_>>().join(" ")
}

fn silence(url: &MailUrl, when: &str, waited: Duration) -> String {
    format!("the mail server {url} took longer than {} s {when}", waited.as_secs_f32())
}

/// Whether the server wants another login before it takes mail.
pub(super) fn is_about_login(error: &SendError) -> bool {
    let (SendError::Sender(error) | SendError::Mail(_, error)) = error else { return false };
    matches!(error, StepError::Refused(error) if is_login_reply(error))
}

/// Whether a refusal, of the recipient by its place, is of who sends: a person can mend that, and then it is taken.
fn is_about_sender(error: &Error) -> bool {
    let said = cause(error);
    is_login_reply(error) || SENDER_WORDS.iter().any(|words| said.contains(words))
}

fn is_login_reply(error: &Error) -> bool {
    error.status().is_some_and(|code| LOGIN_CODES.contains(&code.into()))
}

/// Whether new secrets or certificates could help. A server that is merely away is not worth asking a password
/// store at each attempt.
pub(super) fn may_be_mended_by_settings(error: &ConnectError) -> bool {
    match error {
        ConnectError::Login(_) => true,
        ConnectError::Reach(error) => error.is_tls() || error.is_client() || cause(error).contains("certificate"),
    }
}

/// The server's answer, or the causes from the outermost to the innermost, each once.
fn cause(error: &Error) -> String {
    if let (Some(code), Some(said)) = (error.status(), error.source()) {
        return format!("{code} {said}");
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = inner.source();
    }
    if error.is_response() && text.contains("incomplete response") {
        return "it closed the connection".to_owned();
    }
    text
}

fn without_secrets(text: &str, login: Option<&Login>) -> String {
    let is_secret = |word: &str| {
        let is_base64 = word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '='));
        let is_encoded = is_base64 && (word.len() > LONGEST_PLAIN_WORD || word.ends_with('='));
        is_encoded || login.is_some_and(|login| !login.password.is_empty() && word.contains(&login.password))
    };
    text.split_whitespace().map(|word| if is_secret(word) { HIDDEN } else { word }).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{Login, without_secrets};

    #[test]
    fn what_a_server_repeats_of_a_login_is_left_out() {
        let login = Login { user: "u".into(), password: "hunter2".into() };
        let said =
            "535 5.7.8 Error: authentication failed: UGFzc3dvcmQ6 AHUAaHVudGVyMg== AGxvbmdlcgBwYXNzd29yZHM (hunter2)";
        let shown = without_secrets(said, Some(&login));
        assert_eq!(shown, "535 5.7.8 Error: authentication failed: UGFzc3dvcmQ6 [...] [...] [...]");
    }
}
