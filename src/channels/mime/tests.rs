//! Mails as a mail program reads them.

use super::samples::alert;
use super::{Composer, MAX_SUBJECT_CHARS};
use crate::domain::{NotificationType, OutboxRow};
use crate::ports::DeliveryError;

fn composer() -> Composer {
    Composer::new("Watchbell <bell@example.com>", Some("https://wb.example.com/")).unwrap()
}

/// The headers, unfolded, and what follows them.
fn compose(row: &OutboxRow) -> (Vec<String>, String) {
    let text = composer().compose(row).unwrap().text;
    let (head, rest) = text.split_once("\r\n\r\n").unwrap();
    let headers = head.replace("\r\n ", " ").split("\r\n").map(str::to_owned).collect();
    (headers, rest.to_owned())
}

fn header<'a>(headers: &'a [String], name: &str) -> Option<&'a str> {
    let start = format!("{name}: ");
    let found: Vec<_> = headers.iter().filter_map(|line| line.strip_prefix(&start)).collect();
    assert!(found.len() <= 1, "{name} stands {} times", found.len());
    found.first().copied()
}

#[test]
fn the_headers_come_from_the_row_alone() {
    let (headers, _) = compose(&alert());
    for (name, value) in [
        ("From", "Watchbell <bell@example.com>"),
        ("To", "ops@example.com"),
        ("Subject", "[Monitor ALERT] Orders"),
        ("Date", "Sat, 21 Nov 2026 21:00:00 +0000"),
        ("Message-ID", "<0d0a4f6e-8f0c-4d0b-9b1e-2f3a4b5c6d7e@example.com>"),
        ("Auto-Submitted", "auto-generated"),
        ("X-Watchbell-Type", "alert"),
        ("X-Watchbell-Monitor", "5f0c7a10-1111-4222-8333-444455556666"),
        ("X-Watchbell-Notification", "0d0a4f6e-8f0c-4d0b-9b1e-2f3a4b5c6d7e"),
        ("Importance", "high"),
    ] {
        assert_eq!(header(&headers, name), Some(value), "{name} in {headers:#?}");
    }
    assert_eq!(header(&headers, "In-Reply-To"), None);
    assert_eq!(header(&headers, "References"), None);
}

#[test]
fn what_follows_an_alert_is_threaded_under_it_and_not_marked_urgent() {
    let mut row = alert();
    row.uuid = "ffffffff-8f0c-4d0b-9b1e-2f3a4b5c6d7e".to_owned();
    row.notification_type = NotificationType::Reminder;
    let (headers, _) = compose(&row);
    let first = Some("<0d0a4f6e-8f0c-4d0b-9b1e-2f3a4b5c6d7e@example.com>");
    assert_eq!(header(&headers, "In-Reply-To"), first);
    assert_eq!(header(&headers, "References"), first);
    assert_eq!(header(&headers, "Message-ID"), Some("<ffffffff-8f0c-4d0b-9b1e-2f3a4b5c6d7e@example.com>"));
    assert_eq!(header(&headers, "Importance"), None);
}

#[test]
fn no_field_of_a_row_can_add_a_header() {
    let evil = "x\r\nBcc: victim@example.com\r\n\r\nbody\u{2028}\u{85}\0\"<>";
    let mut row = alert();
    row.subject = format!("[Monitor ALERT] {evil}");
    row.uuid = evil.to_owned();
    row.thread_uuid = format!("y{evil}");
    row.monitor_uuid = Some(evil.to_owned());
    let (headers, rest) = compose(&row);
    assert_eq!(header(&headers, "Bcc"), None, "{headers:#?}");
    assert!(!rest.contains("\r\nBcc"), "{rest}");
    assert!(headers.iter().all(|line| line.contains(": ")), "{headers:#?}");
}

#[test]
fn a_recipient_that_is_no_address_is_refused_for_good() {
    for recipient in ["", "ops", "a@x.test\r\nBcc: b@x.test", "a@x.test, b@x.test", "<a@x.test> SIZE=1", "a b@x.test"] {
        let mut row = alert();
        row.recipient = recipient.to_owned();
        let error = composer().compose(&row).unwrap_err();
        assert!(matches!(error, DeliveryError::Permanent { .. }), "{recipient}: {error}");
    }
}

#[test]
fn a_subject_is_bounded_and_encoded() {
    let mut row = alert();
    row.subject = "ü".repeat(100_000);
    let (headers, _) = compose(&row);
    let subject = header(&headers, "Subject").unwrap();
    assert!(subject.is_ascii() && subject.starts_with("=?utf-8?b?"), "{subject}");
    assert!(subject.len() < MAX_SUBJECT_CHARS * 6, "{}", subject.len());
}

#[test]
fn every_line_fits_the_protocol_whatever_the_body() {
    for body in ["x".repeat(65_536), "Ж".repeat(32_768), ".\n..\n\n.\n".to_owned(), "a\0\x1bb\r\nc\rd".to_owned()] {
        let mut row = alert();
        row.body = body;
        let text = composer().compose(&row).unwrap().text;
        assert!(text.is_ascii() && !text.contains('\0'));
        assert!(text.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n'])));
    }
}

#[test]
fn the_link_needs_both_the_address_and_the_monitor() {
    let link = "https://wb.example.com/monitors/5f0c7a10";
    let html = |row: &OutboxRow| compose(row).1.replace("=\r\n", "").replace("=3D", "=");
    assert!(html(&alert()).contains(link), "{}", html(&alert()));
    let gone = OutboxRow { monitor_uuid: None, ..alert() };
    assert!(!html(&gone).contains("/monitors/"));
    assert_eq!(header(&compose(&gone).0, "X-Watchbell-Monitor"), Some("7"));
}

#[test]
fn dates_that_mail_cannot_write_end_nothing() {
    for seconds in [-1_000_000_000_000, 8_000_000_000_000] {
        let mut row = alert();
        row.created_at = chrono::DateTime::from_timestamp(seconds, 0).unwrap();
        assert!(header(&compose(&row).0, "Date").is_some());
    }
}

#[test]
fn bad_settings_are_all_reported_with_their_keys() {
    let faults = Composer::new("nobody", Some("wb.example.com")).err().unwrap().to_string();
    for part in ["mail.from: `nobody`", "Watchbell <watchbell@example.com>", "public_url: `wb.example.com`"] {
        assert!(faults.contains(part), "{part} is missing in {faults}");
    }
    assert!(Composer::new("a@x.test\r\nBcc: b@x.test", None).is_err());
    assert!(Composer::new("a@bücher.example", None).is_ok_and(|it| it.domain == "xn--bcher-kva.example"));
}
