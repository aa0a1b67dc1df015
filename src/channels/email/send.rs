//! One mail over an open session.
//!
//! Lettre's own way writes the mail and the dot that ends it apart, on a socket without TCP_NODELAY: the dot then waits
//! for an acknowledgment that the server delays, 40 ms for each mail. Here both go in one write.

use lettre::address::Envelope;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail as MailCommand, Rcpt};
use lettre::transport::smtp::extension::{Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Response;

use crate::channels::mime::Mail;

/// Why a mail was not taken.
pub(super) enum SendError {
    /// The server refused a step, or the session broke at it.
    Step(&'static str, Error),
    /// The address has letters that this server cannot take.
    NeedsUnicode,
}

/// Hands one mail over. After an error the session is not to be used again.
pub(super) async fn send(smtp: &mut AsyncSmtpConnection, mail: &Mail) -> Result<Response, SendError> {
    let options = mail_options(smtp, mail)?;
    let sender = MailCommand::new(mail.envelope.from().cloned(), options);
    smtp.command(sender).await.map_err(|error| SendError::Step("the sender", error))?;
    for recipient in mail.envelope.to() {
        let recipient = Rcpt::new(recipient.clone(), Vec::new());
        smtp.command(recipient).await.map_err(|error| SendError::Step("the recipient", error))?;
    }
    smtp.command(Data).await.map_err(|error| SendError::Step("the mail", error))?;
    smtp.command(with_end(&mail.text)).await.map_err(|error| SendError::Step("the mail", error))
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
