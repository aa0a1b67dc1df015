//! One mail over an open session.
//!
//! Lettre's own way writes the mail and the dot that ends it apart, on a socket without TCP_NODELAY: the dot then waits
//! for an acknowledgment that the server delays, 40 ms for each mail. Here both go in one write.

use std::fmt::Display;

use lettre::address::Envelope;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail as MailCommand, Rcpt};
use lettre::transport::smtp::extension::{Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Response;
use tokio::time::{Instant, timeout_at};

use crate::channels::mime::Mail;

/// Why a mail was not taken.
pub(super) enum SendError {
    /// The server refused the sender, or the session broke at it. The sender is the same for all mails, and nothing of
    /// this one was said before it.
    Sender(StepError),
    /// The same of what is this mail's own: its options, its recipient, or all of it.
    Mail(&'static str, StepError),
    /// The address has letters that this server cannot take.
    NeedsUnicode,
}

impl SendError {
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Sender(StepError::Silence) | Self::Mail(_, StepError::Silence))
    }
}

/// How a step ended that did not succeed.
pub(super) enum StepError {
    /// A refusal, or a session that broke.
    Refused(Error),
    /// Nothing until the deadline.
    Silence,
}

/// Hands one mail over. After an error the session is not to be used again.
pub(super) async fn send(
    smtp: &mut AsyncSmtpConnection,
    mail: &Mail,
    deadline: Instant,
) -> Result<Response, SendError> {
    let options = mail_options(smtp, mail)?;
    let is_usual = options.is_empty();
    let sender = MailCommand::new(mail.envelope.from().cloned(), options);
    step(smtp, sender, deadline).await.map_err(|error| match is_usual {
        true => SendError::Sender(error),
        false => SendError::Mail("the sender", error),
    })?;
    for recipient in mail.envelope.to() {
        let recipient = Rcpt::new(recipient.clone(), Vec::new());
        step(smtp, recipient, deadline).await.map_err(|error| SendError::Mail("the recipient", error))?;
    }
    step(smtp, Data, deadline).await.map_err(|error| SendError::Mail("the mail", error))?;
    step(smtp, with_end(&mail.text), deadline).await.map_err(|error| SendError::Mail("the mail", error))
}

async fn step(smtp: &mut AsyncSmtpConnection, command: impl Display, deadline: Instant) -> Result<Response, StepError> {
    match timeout_at(deadline, smtp.command(command)).await {
        Ok(answer) => answer.map_err(StepError::Refused),
        Err(_) => Err(StepError::Silence),
    }
}

fn mail_options(smtp: &AsyncSmtpConnection, mail: &Mail) -> Result<Vec<MailParameter>, SendError> {
    let mut options = Vec::new();
    let mut need = |is_needed: bool, feature: Extension, option: MailParameter| {
        if is_needed {
            options.push(option);
        }
        if is_needed && !smtp.server_info().supports_feature(feature) { Err(SendError::NeedsUnicode) } else { Ok(()) }
    };
    need(!has_ascii_addresses(&mail.envelope), Extension::SmtpUtfEight, MailParameter::SmtpUtfEight)?;
    // Only an address can bring such letters into a header; all else is encoded.
    let eight_bit = MailParameter::Body(MailBodyParameter::EightBitMime);
    need(!mail.text.is_ascii(), Extension::EightBitMime, eight_bit)?;
    Ok(options)
}

fn has_ascii_addresses(envelope: &Envelope) -> bool {
    envelope.from().into_iter().chain(envelope.to()).all(|address| AsRef::<str>::as_ref(address).is_ascii())
}

/// The mail as RFC 5321 (4.5.2) wants it after DATA: a line that begins with a dot gets another one, and a line with
/// a dot alone ends it.
fn with_end(text: &str) -> String {
    let first = if text.starts_with('.') { "." } else { "" };
    let last = if text.ends_with("\r\n") { "" } else { "\r\n" };
    format!("{first}{}{last}.\r\n", text.replace("\r\n.", "\r\n.."))
}

#[cfg(test)]
mod tests {
    use super::with_end;

    #[test]
    fn dots_are_doubled_and_the_end_is_a_line_of_its_own() {
        for (text, wire) in [
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            (".\r\n.\r\n..a\r\nb.", "..\r\n..\r\n...a\r\nb.\r\n.\r\n"),
            ("", "\r\n.\r\n"),
        ] {
            assert_eq!(with_end(text), wire, "{text:?}");
        }
    }
}
