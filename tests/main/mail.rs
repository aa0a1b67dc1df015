//! Mail against a real SMTP server.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use chrono::DateTime;
use serde_json::json;
use watchbell::channels::{EmailSettings, SmtpMail};
use watchbell::domain::{Facts, IncidentId, MonitorId, NotificationId, NotificationType, OutboxRow};
use watchbell::ports::{Channel, DeliveryError};
use watchbell_contract::{NoSecrets, Secret, SecretError, SecretReference, Secrets, Severity, async_trait};

use crate::support::smtp::SmtpServer;

const TIMEOUT: Duration = Duration::from_secs(20);

pub(super) fn settings(url: &str) -> EmailSettings {
    EmailSettings {
        url: Secret::parse(url, Arc::new(NoSecrets)).unwrap(),
        from: "Watchbell <bell@x.test>".to_owned(),
        ca_file: None,
        timeout: TIMEOUT,
        max_connections: 4,
        public_url: Some("https://wb.x.test".to_owned()),
    }
}

pub(super) fn trusting(server: &SmtpServer, url: &str) -> SmtpMail {
    SmtpMail::new(EmailSettings { ca_file: Some(server.ca_file()), ..settings(url) }).unwrap()
}

pub(super) fn plain(server: &SmtpServer) -> SmtpMail {
    SmtpMail::new(settings(&plain_url(server))).unwrap()
}

pub(super) fn plain_url(server: &SmtpServer) -> String {
    format!("smtp://127.0.0.1:{}", server.ports().plain)
}

pub(super) fn starttls_url(server: &SmtpServer) -> String {
    format!("smtp://u:p@localhost:{}?tls=required", server.ports().starttls)
}

pub(super) fn notification(number: i64, recipient: &str) -> OutboxRow {
    let uuid = format!("0d0a4f6e-8f0c-4d0b-9b1e-{number:012}");
    OutboxRow {
        id: NotificationId(number),
        thread_uuid: uuid.clone(),
        uuid,
        monitor_id: Some(MonitorId(7)),
        monitor_uuid: Some("5f0c7a10-1111-4222-8333-444455556666".to_owned()),
        incident_id: Some(IncidentId(3)),
        incident_uuid: None,
        thread_external_id: None,
        edits_external_id: None,
        facts: Facts::default(),
        notification_type: NotificationType::Alert,
        severity: Severity::Critical,
        recipient: recipient.to_owned(),
        subject: "[Monitor ALERT] Orders".to_owned(),
        body: "Monitor: Orders\nState: alert\n\nnothing came since noon\n".to_owned(),
        attempts: 1,
        created_at: DateTime::from_timestamp(1_795_294_800, 0).unwrap(),
    }
}

async fn retry_reason(channel: &SmtpMail, row: &OutboxRow) -> String {
    match channel.deliver(row).await {
        Err(DeliveryError::Retry { reason, .. } | DeliveryError::Unavailable { reason, .. }) => reason,
        other => panic!("expected a temporary failure, found {other:?}"),
    }
}

async fn permanent_reason(channel: &SmtpMail, row: &OutboxRow) -> String {
    match channel.deliver(row).await {
        Err(DeliveryError::Permanent { reason }) => reason,
        other => panic!("expected a permanent failure, found {other:?}"),
    }
}

#[tokio::test]
async fn starttls_with_login_and_a_private_authority() {
    let server = SmtpServer::start();
    let channel = trusting(&server, &starttls_url(&server));
    let delivered = channel.deliver(&notification(1, "ops@y.test")).await.unwrap();
    assert_eq!(delivered.answer, "250 2.0.0 queued as 1");
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].tls && mails[0].auth && mails[0].port == server.ports().starttls);
    assert_eq!(
        (mails[0].mail_from.as_str(), mails[0].rcpt.as_slice()),
        ("bell@x.test", &["ops@y.test".to_owned()][..])
    );
    let described = channel.describe();
    assert!(described.contains("localhost") && !described.contains("u:p"), "{described}");
}

#[tokio::test]
async fn implicit_tls_with_login() {
    let server = SmtpServer::start();
    let channel = trusting(&server, &format!("smtps://u:p@127.0.0.1:{}", server.ports().tls));
    channel.deliver(&notification(1, "ops@y.test")).await.unwrap();
    let mails = server.mails();
    assert!(mails.len() == 1 && mails[0].tls && mails[0].auth && mails[0].port == server.ports().tls);
}

#[tokio::test]
async fn opportunistic_tls_is_used_where_offered_and_not_missed_elsewhere() {
    let server = SmtpServer::start();
    let url = format!("smtp://u:p@localhost:{}?tls=opportunistic", server.ports().starttls);
    trusting(&server, &url).deliver(&notification(1, "ops@y.test")).await.unwrap();
    let url = format!("smtp://localhost:{}?tls=opportunistic", server.ports().plain);
    trusting(&server, &url).deliver(&notification(2, "ops@y.test")).await.unwrap();
    assert_eq!(server.mails().iter().map(|mail| mail.tls).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn required_tls_sends_nothing_where_none_is_offered() {
    let server = SmtpServer::start();
    let channel = trusting(&server, &format!("smtp://localhost:{}?tls=required", server.ports().plain));
    let reason = retry_reason(&channel, &notification(1, "ops@y.test")).await;
    assert!(reason.contains("STARTTLS is not supported"), "{reason}");
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn an_unknown_authority_is_refused_and_named() {
    let server = SmtpServer::start();
    for url in [starttls_url(&server), format!("smtps://u:p@localhost:{}", server.ports().tls)] {
        let channel = SmtpMail::new(settings(&url)).unwrap();
        let reason = retry_reason(&channel, &notification(1, "ops@y.test")).await;
        assert!(reason.contains("certificate") && reason.contains("mail.ca_file"), "{reason}");
    }
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn a_replaced_authority_counts_without_a_restart() {
    let (server, other) = (SmtpServer::start(), SmtpServer::start());
    let channel = trusting(&other, &starttls_url(&server));
    let reason = retry_reason(&channel, &notification(1, "ops@y.test")).await;
    assert!(reason.contains("certificate"), "{reason}");
    std::fs::copy(server.ca_file(), other.ca_file()).unwrap();
    channel.deliver(&notification(1, "ops@y.test")).await.unwrap();
}

/// A store of secrets in which a test puts another one.
struct Store(Mutex<String>);

#[async_trait]
impl Secrets for Store {
    fn permit(&self, _reference: &SecretReference) -> Result<(), SecretError> {
        Ok(())
    }

    async fn resolve(&self, _reference: &SecretReference) -> Result<String, SecretError> {
        Ok(self.0.lock().unwrap().clone())
    }
}

#[tokio::test]
async fn a_wrong_password_is_temporary_and_a_new_one_counts_without_a_restart() {
    let server = SmtpServer::start();
    let store = Arc::new(Store(Mutex::new("hunter2@old".to_owned())));
    let url = format!("smtp://u:${{env:PW}}@localhost:{}?tls=required", server.ports().starttls);
    let url = Secret::parse(&url, store.clone()).unwrap();
    let channel = SmtpMail::new(EmailSettings { url, ca_file: Some(server.ca_file()), ..settings("") }).unwrap();
    let reason = retry_reason(&channel, &notification(1, "ops@y.test")).await;
    assert!(reason.contains("refused the login: 535") && !reason.contains("hunter2"), "{reason}");
    "p".clone_into(&mut store.0.lock().unwrap());
    channel.deliver(&notification(1, "ops@y.test")).await.unwrap();

    // The password is changed on the server; a session that is open stays open. A new one learns of it.
    server.set_password("p2");
    server.fault(json!({"at": "MAIL", "reply": "530 5.7.0 authentication required"}));
    let reason = retry_reason(&channel, &notification(2, "ops@y.test")).await;
    assert!(reason.contains("530"), "{reason}");
    "p2".clone_into(&mut store.0.lock().unwrap());
    channel.deliver(&notification(2, "ops@y.test")).await.unwrap();
    assert_eq!(server.mails().len(), 2);
}

#[tokio::test]
async fn a_server_without_login_refuses_it_temporarily() {
    let server = SmtpServer::start();
    let channel = SmtpMail::new(settings(&format!("smtp://u:hunter2@127.0.0.1:{}", server.ports().plain))).unwrap();
    let reason = retry_reason(&channel, &notification(1, "ops@y.test")).await;
    assert!(reason.contains("login") && !reason.contains("hunter2"), "{reason}");
}

#[tokio::test]
async fn answers_decide_whether_to_try_again() {
    let server = SmtpServer::start();
    let channel = plain(&server);
    for (at, reply) in [
        ("CONNECT", "421 4.3.2 too busy"),
        ("CONNECT", "554 5.3.2 no service here"),
        ("MAIL", "451 4.3.0 later"),
        ("MAIL", "530 5.7.0 login first"),
        ("MAIL", "550 5.7.1 not you"),
        ("RCPT", "451 4.3.0 later"),
        ("DATA", "452 4.3.1 no space"),
    ] {
        server.fault(json!({"at": at, "reply": reply}));
        let reason = retry_reason(&channel, &notification(1, "ops@y.test")).await;
        assert!(reason.contains(reply), "{at} {reply}: {reason}");
        channel.deliver(&notification(1, "ops@y.test")).await.unwrap_or_else(|error| panic!("after {reply}: {error}"));
        assert_eq!(server.mails().len(), 1, "{at} {reply}");
        server.clear();
        drop_sessions(&channel, &server).await;
    }
    for (at, reply) in [("RCPT", "553 5.1.3 bad"), ("DATA", "554 5.6.0 spam")] {
        server.fault(json!({"at": at, "reply": reply}));
        let reason = permanent_reason(&channel, &notification(1, "ops@y.test")).await;
        assert!(reason.contains(reply), "{at} {reply}: {reason}");
    }
    assert!(server.mails().is_empty());
    let reason = permanent_reason(&channel, &notification(1, "hard@y.test")).await;
    assert!(reason.contains("550 5.1.1 no such mailbox"), "{reason}");
    let reason = retry_reason(&channel, &notification(1, "tmp@y.test")).await;
    assert!(reason.contains("451 4.3.0 try again later"), "{reason}");
}

/// A refusal makes the channel close its session, so that the next mail comes over a new one.
async fn drop_sessions(channel: &SmtpMail, server: &SmtpServer) {
    server.fault(json!({"at": "RCPT", "reply": "451 4.0.0 next"}));
    retry_reason(channel, &notification(0, "nobody@y.test")).await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_temporary_and_replaced() {
    let server = SmtpServer::start();
    let channel = plain(&server);
    for at in ["CONNECT", "MAIL", "DATA"] {
        server.fault(json!({"at": at, "drop": true}));
        let reason = retry_reason(&channel, &notification(1, "ops@y.test")).await;
        assert!(reason.contains("127.0.0.1"), "{at}: {reason}");
    }
    channel.deliver(&notification(1, "ops@y.test")).await.unwrap();
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn a_server_that_is_away_is_temporary() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let channel = SmtpMail::new(settings(&format!("smtp://127.0.0.1:{port}"))).unwrap();
    let reason = retry_reason(&channel, &notification(1, "ops@y.test")).await;
    assert!(reason.contains("refused") && reason.contains(&port.to_string()), "{reason}");
}

#[tokio::test]
async fn slowness_is_bounded_and_temporary() {
    let server = SmtpServer::start();
    let quick = EmailSettings { timeout: Duration::from_secs(1), ..settings(&plain_url(&server)) };
    let channel = SmtpMail::new(quick).unwrap();
    for (at, when) in [("CONNECT", "before it was ready"), ("DATA", "while taking the mail")] {
        server.fault(json!({"at": at, "delay": 30}));
        let start = Instant::now();
        let reason = retry_reason(&channel, &notification(1, "ops@y.test")).await;
        assert!(reason.contains(when) && reason.contains(" 1 s"), "{reason}");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn waiting_for_a_connection_is_bounded() {
    let server = SmtpServer::start();
    let quick =
        EmailSettings { timeout: Duration::from_millis(300), max_connections: 1, ..settings(&plain_url(&server)) };
    let channel = Arc::new(SmtpMail::new(quick).unwrap());
    server.fault(json!({"at": "DATA", "delay": 30, "count": 3}));
    let tasks: Vec<_> = (1..=3)
        .map(|number| {
            let channel = Arc::clone(&channel);
            tokio::spawn(async move { retry_reason(&channel, &notification(number, "ops@y.test")).await })
        })
        .collect();
    let mut reasons = Vec::new();
    for task in tasks {
        reasons.push(task.await.unwrap());
    }
    assert!(reasons.iter().any(|reason| reason.contains("all 1 connections")), "{reasons:?}");
}

/// A store of secrets that does not answer.
struct Silence;

#[async_trait]
impl Secrets for Silence {
    fn permit(&self, _reference: &SecretReference) -> Result<(), SecretError> {
        Ok(())
    }

    async fn resolve(&self, _reference: &SecretReference) -> Result<String, SecretError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_secret_is_bounded() {
    let url = Secret::parse("${pass:mail}", Arc::new(Silence)).unwrap();
    let channel = SmtpMail::new(EmailSettings { url, ..settings("") }).unwrap();
    let reason = retry_reason(&channel, &notification(1, "ops@y.test")).await;
    assert!(reason.contains("could not be read within 20 s"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_mails_at_once_all_arrive_once_over_no_more_connections_than_allowed() {
    let server = SmtpServer::start();
    let channel = Arc::new(trusting(&server, &starttls_url(&server)));
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let channel = Arc::clone(&channel);
            tokio::spawn(async move { channel.deliver(&notification(number, &format!("p{number}@y.test"))).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let mut recipients: Vec<_> = server.mails().into_iter().flat_map(|mail| mail.rcpt).collect();
    recipients.sort();
    let mut expected: Vec<_> = (0..200).map(|number| format!("p{number}@y.test")).collect();
    expected.sort();
    assert_eq!(recipients, expected);
    let sessions = server.sessions();
    assert!(sessions.most_open <= 4 && sessions.opened <= 8, "{sessions:?}");
}

#[tokio::test]
async fn mails_one_by_one_share_a_session_and_are_fast() {
    let server = SmtpServer::start();
    let channel = plain(&server);
    let mut taken_after = Vec::new();
    for number in 0..120 {
        let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        channel.deliver(&notification(number, "ops@y.test")).await.unwrap();
        taken_after.push(start);
    }
    for (mail, start) in server.mails().iter().zip(&mut taken_after) {
        *start = mail.time - *start;
    }
    taken_after.sort_by(f64::total_cmp);
    // The faster ones, so that a busy machine does not count: a wait for a delayed acknowledgment, 0.04 s, is in each.
    assert!(taken_after[5] < 0.03, "{taken_after:?}");
    // A session carries 100 mails.
    assert_eq!((server.mails().len(), server.sessions().opened), (120, 2));
}

#[tokio::test]
async fn a_session_that_is_not_needed_is_ended() {
    let server = SmtpServer::start();
    let channel = plain(&server);
    channel.deliver(&notification(1, "ops@y.test")).await.unwrap();
    assert_eq!(server.sessions().open, 1);
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(100)).await;
    tokio::time::resume();
    let patience = Instant::now() + TIMEOUT;
    while server.sessions().open > 0 {
        assert!(Instant::now() < patience, "the session is still open");
        tokio::task::yield_now().await;
    }
    channel.deliver(&notification(2, "ops@y.test")).await.unwrap();
    assert_eq!(server.mails().len(), 2);
}

#[tokio::test]
async fn a_session_that_the_server_ended_is_replaced_unnoticed() {
    let server = SmtpServer::start();
    let channel = plain(&server);
    channel.deliver(&notification(1, "ops@y.test")).await.unwrap();
    server.end_sessions();
    channel.deliver(&notification(2, "ops@y.test")).await.unwrap();
    assert_eq!((server.mails().len(), server.sessions().opened), (2, 2));
}

#[tokio::test]
async fn a_delivery_that_is_given_up_half_way_spoils_nothing() {
    let server = SmtpServer::start();
    let channel = SmtpMail::new(EmailSettings { max_connections: 1, ..settings(&plain_url(&server)) }).unwrap();
    let channel = Arc::new(channel);
    server.fault(json!({"at": "DATA", "delay": 30}));
    let half_way = tokio::spawn({
        let channel = Arc::clone(&channel);
        async move { channel.deliver(&notification(1, "ops@y.test")).await }
    });
    let patience = Instant::now() + TIMEOUT;
    while server.pending_faults() > 0 {
        assert!(Instant::now() < patience && !half_way.is_finished(), "the mail did not get half way");
        tokio::task::yield_now().await;
    }
    half_way.abort();
    let start = Instant::now();
    channel.deliver(&notification(1, "ops@y.test")).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn a_repeat_is_recognizable_and_what_follows_is_threaded() {
    let server = SmtpServer::start();
    let channel = plain(&server);
    let alert = notification(1, "ops@y.test");
    let mut recovery = OutboxRow { thread_uuid: alert.uuid.clone(), ..notification(2, "ops@y.test") };
    recovery.notification_type = NotificationType::Recovery;
    for row in [&alert, &alert, &recovery] {
        channel.deliver(row).await.unwrap();
    }
    let mails = server.mails();
    let id = mails[0].header("Message-ID");
    assert_eq!(id.as_deref(), Some("<0d0a4f6e-8f0c-4d0b-9b1e-000000000001@x.test>"));
    assert_eq!((mails[1].header("Message-ID"), mails[1].header("Date")), (id.clone(), mails[0].header("Date")));
    assert_eq!((mails[0].header("In-Reply-To"), mails[0].header("References")), (None, None));
    assert_eq!((mails[2].header("In-Reply-To"), mails[2].header("References")), (id.clone(), id));
}

#[tokio::test]
async fn names_and_messages_of_any_kind_arrive_as_they_are_and_nothing_else_does() {
    let server = SmtpServer::start();
    let channel = plain(&server);
    let long = "Ж".repeat(180);
    let names = ["Bestellungen für Zürich 🔔", "\"quoted\" <a@b>, 'x'; =?utf-8?q?no?=", "日本語の監視", &long];
    for name in names {
        let body = format!("Monitor: {name}\n\n{name}\n.\n..dots\n{}\n  ", "long line ".repeat(2_000));
        let row = OutboxRow {
            subject: format!("[Monitor ALERT] {name}"),
            body: body.clone(),
            ..notification(1, "ops@y.test")
        };
        channel.deliver(&row).await.unwrap();
        let mail = server.mails().pop().unwrap();
        assert_eq!(mail.subject.replace('\u{2060}', ""), row.subject);
        assert!(mail.text.as_deref() == Some(&body), "the text of {name} is another one");
        let escaped = name.replace('"', "&quot;").replace('\'', "&#39;").replace('<', "&lt;").replace('>', "&gt;");
        assert!(mail.html.as_deref().is_some_and(|html| html.matches(&escaped).count() == 4), "{:?}", mail.html);
        assert!(mail.html.as_deref().is_some_and(|html| html.contains("https://wb.x.test/monitors/5f0c7a10-")));
    }
    let evil = "a\r\nBcc: victim@y.test\r\n\r\n.\r\nMAIL FROM:<x@x.test>";
    let row = OutboxRow { subject: evil.to_owned(), body: evil.to_owned(), ..notification(2, "ops@y.test") };
    channel.deliver(&row).await.unwrap();
    let mail = server.mails().pop().unwrap();
    assert_eq!((mail.header("Bcc"), mail.rcpt), (None, vec!["ops@y.test".to_owned()]));
    assert_eq!(mail.subject, "a Bcc: victim@y.test . MAIL FROM:<x@x.test>");
    assert_eq!(server.mails().len(), names.len() + 1);
}

#[tokio::test]
async fn an_address_with_unicode_arrives_where_the_server_takes_it() {
    let server = SmtpServer::start();
    plain(&server).deliver(&notification(1, "jörg@bücher.example")).await.unwrap();
    assert_eq!(server.mails()[0].rcpt, ["jörg@bücher.example"]);
}

#[test]
fn bad_settings_are_all_named_before_anything_is_sent() {
    let temp = tempfile::tempdir().unwrap();
    let ca_file = Some(temp.path().join("missing.pem"));
    let public_url = Some("wb".to_owned());
    let bad = EmailSettings { from: "nobody".to_owned(), ca_file, public_url, ..settings("smtp://mx") };
    let faults = SmtpMail::new(bad).err().unwrap().to_string();
    for part in ["mail.from: ", "mail.ca_file: ", "missing.pem", "public_url: ", "hint: "] {
        assert!(faults.contains(part), "{part} is missing in {faults}");
    }
    let empty = temp.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").unwrap();
    let faults = SmtpMail::new(EmailSettings { ca_file: Some(empty), ..settings("smtp://mx") }).err().unwrap();
    assert!(faults.to_string().contains("holds no certificate"), "{faults}");
}

#[tokio::test]
async fn a_url_that_is_none_is_told_at_the_start_and_at_each_mail() {
    let channel = SmtpMail::new(settings("smtp://u:hunter2@mx.test?tsl=required")).unwrap();
    let fault = channel.prepare().await.unwrap_err().to_string();
    assert!(fault.contains("mail.url") && fault.contains("tls=required") && !fault.contains("hunter2"), "{fault}");
    assert_eq!(retry_reason(&channel, &notification(1, "ops@y.test")).await, fault);
}
