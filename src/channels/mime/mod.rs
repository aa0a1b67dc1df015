//! What a mail of a notification looks like, down to its bytes.
//!
//! All that must be the same at every attempt (Message-ID, Date, thread) comes from the row alone. Text from outside
//! goes only into encoded headers, into an encoded part, or through HTML escaping.

mod html;
#[cfg(test)]
pub(super) mod samples;

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::{Address, Message};
use url::Host;
use watchbell_contract::{ConfigFault, ConfigFaults, Severity};

use crate::domain::{NotificationType, OutboxRow, make_safe, one_line};
use crate::ports::DeliveryError;

/// Mail programs show less; a row that was written by hand may hold more.
const MAX_SUBJECT_CHARS: usize = 250;
/// Bodies are bounded where they are made; a row that was written by hand is bounded here. Servers take some MB.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// A name in a header, such as a uuid, is not longer.
const MAX_TOKEN_CHARS: usize = 64;

/// A mail, ready for the wire.
#[derive(Debug)]
pub(super) struct Mail {
    /// From whom, to whom.
    pub(super) envelope: Envelope,
    /// Headers and parts, with `\r\n` as line break.
    pub(super) text: String,
}

/// Makes mails of notifications.
pub(super) struct Composer {
    from: Mailbox,
    /// The domain of `from`, in ASCII: the right side of each Message-ID.
    domain: String,
    public_url: Option<String>,
}

impl Composer {
    pub(super) fn new(from: &str, public_url: Option<&str>) -> Result<Self, ConfigFaults> {
        let mut faults = Vec::new();
        let sender = read_from(from).map_err(|fault| faults.push(fault)).ok();
        let public_url = public_url.map(read_public_url).transpose().map_err(|fault| faults.push(fault)).ok();
        match (sender, public_url) {
            (Some((from, domain)), Some(public_url)) => Ok(Self { from, domain, public_url }),
            _ => Err(ConfigFaults(faults)),
        }
    }

    /// Whom the mails come from, for people.
    pub(super) fn from(&self) -> String {
        self.from.to_string()
    }

    /// The mail for one row.
    ///
    /// # Errors
    /// [`DeliveryError::Permanent`]: the recipient is no address, or lettre refuses the mail.
    pub(super) fn compose(&self, row: &OutboxRow) -> Result<Mail, DeliveryError> {
        let recipient = row.recipient.trim().parse::<Address>().map_err(|error| DeliveryError::Permanent {
            reason: format!("`{}` is not an e-mail address: {error}", one_line(&row.recipient, MAX_SUBJECT_CHARS)),
        })?;
        let refused = |error: &dyn std::error::Error| DeliveryError::Permanent {
            reason: format!("no mail can be made of the notification: {error}"),
        };
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![recipient.clone()]);
        let envelope = envelope.map_err(|error| refused(&error))?;
        let subject = one_line(&row.subject, MAX_SUBJECT_CHARS).into_owned();
        let text = make_safe(&row.body, MAX_BODY_BYTES);
        let link = self.link(row);
        let html = html::page(row.notification_type, &subject, &text, link.as_deref());
        let mut builder = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, recipient))
            .subject(as_no_code(&subject))
            .date(mail_date(row.created_at))
            .message_id(Some(self.message_id(&row.uuid)))
            .envelope(envelope.clone());
        if row.thread_uuid != row.uuid {
            let first = self.message_id(&row.thread_uuid);
            builder = builder.in_reply_to(first.clone()).references(first);
        }
        for (name, value) in own_headers(row) {
            builder = builder.raw_header(HeaderValue::new(name, value));
        }
        let message = builder.multipart(MultiPart::alternative_plain_html(text, html));
        let bytes = message.map_err(|error| refused(&error))?.formatted();
        Ok(Mail { envelope, text: String::from_utf8(bytes).map_err(|error| refused(&error))? })
    }

    fn message_id(&self, uuid: &str) -> String {
        format!("<{}@{}>", token(uuid), self.domain)
    }

    fn link(&self, row: &OutboxRow) -> Option<String> {
        let (public_url, uuid) = (self.public_url.as_deref()?, row.monitor_uuid.as_deref()?);
        Some(format!("{public_url}/monitors/{}", token(uuid)))
    }
}

/// `text` as one word that is safe in a header, a URL and a file name. A uuid stays as it is.
pub(super) fn token(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    text.chars().take(MAX_TOKEN_CHARS).map(safe).collect()
}

/// What looks like the code for encoded text (RFC 2047) would be decoded by mail programs, into something else than
/// was written. An invisible character keeps it from being read as code.
fn as_no_code(subject: &str) -> String {
    subject.replace("=?", "=\u{2060}?")
}

fn own_headers(row: &OutboxRow) -> Vec<(HeaderName, String)> {
    let monitor = match (&row.monitor_uuid, row.monitor_id) {
        (Some(uuid), _) => Some(token(uuid)),
        (None, Some(id)) => Some(id.0.to_string()),
        (None, None) => None,
    };
    let mut headers = vec![
        // RFC 3834, and what Exchange understands: nobody's holiday notice answers an alert.
        (HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()),
        (HeaderName::new_from_ascii_str("X-Auto-Response-Suppress"), "All".to_owned()),
        (HeaderName::new_from_ascii_str("X-Watchbell-Type"), row.notification_type.to_string()),
        (HeaderName::new_from_ascii_str("X-Watchbell-Notification"), token(&row.uuid)),
    ];
    headers.extend(monitor.map(|monitor| (HeaderName::new_from_ascii_str("X-Watchbell-Monitor"), monitor)));
    if row.notification_type == NotificationType::Alert && row.severity == Severity::Critical {
        headers.push((HeaderName::new_from_ascii_str("Importance"), "high".to_owned()));
        headers.push((HeaderName::new_from_ascii_str("X-Priority"), "1".to_owned()));
    }
    headers
}

/// The instant as mail can write it: years 1970 to 9999. A date outside them would end the program in lettre.
fn mail_date(at: DateTime<Utc>) -> SystemTime {
    const LAST_SECOND: i64 = 253_402_300_799;
    let seconds = u64::try_from(at.timestamp().clamp(0, LAST_SECOND)).unwrap_or(0);
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)
}

fn read_from(from: &str) -> Result<(Mailbox, String), ConfigFault> {
    let fault = |problem: String| ConfigFault {
        path: "mail.from".to_owned(),
        problem,
        hint: Some("for example `watchbell@example.com` or `Watchbell <watchbell@example.com>`".to_owned()),
    };
    let shown = one_line(from, MAX_SUBJECT_CHARS);
    let mailbox: Mailbox = match from.trim().parse() {
        Ok(mailbox) => mailbox,
        Err(error) => return Err(fault(format!("`{shown}` is not an e-mail address: {error}"))),
    };
    if from.chars().any(char::is_control) {
        return Err(fault(format!("`{shown}` holds control characters")));
    }
    let domain = mailbox.email.domain();
    let ascii =
        if domain.starts_with('[') { Ok(domain.to_owned()) } else { Host::parse(domain).map(|h| h.to_string()) };
    match ascii {
        Ok(domain) => Ok((mailbox, domain)),
        Err(error) => Err(fault(format!("`{shown}` has no usable domain: {error}"))),
    }
}

fn read_public_url(url: &str) -> Result<String, ConfigFault> {
    match url::Url::parse(url.trim()) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => Ok(url.trim().trim_end_matches('/').to_owned()),
        Ok(_) | Err(_) => Err(ConfigFault {
            path: "public_url".to_owned(),
            problem: format!("`{}` is not an address of a web page", one_line(url, MAX_SUBJECT_CHARS)),
            hint: Some(
                "it begins with `http://` or `https://`, for example `https://watchbell.example.com`".to_owned(),
            ),
        }),
    }
}

#[cfg(test)]
mod tests;
