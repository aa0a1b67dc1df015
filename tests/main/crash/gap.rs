//! The one gap of at-least-once, hit on purpose: the server has the mail, and the process dies before it is told so.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;

use super::site::Site;
use super::truth;

const ALERT_AND_RECOVER: &str = "INSERT INTO monitors \
    (name, kind, schedule, config, required_consecutive_oks, reminder_frequency_minutes, people_to_notify) VALUES \
    ('Orders', 'file', '@every 1h', '{\"path\": \"PATH\", \"exists\": false}', 1, NULL, '[\"ops@y.test\", \"boss@y.test\"]')";

async fn with_a_failing_monitor() -> Site {
    let site = Site::new();
    std::fs::write(site.path("broken"), "").unwrap();
    site.execute(&ALERT_AND_RECOVER.replace("PATH", &site.text_path("broken"))).await;
    site
}

#[tokio::test]
async fn killed_between_sending_and_noting_it_sends_once_more_under_the_same_message_id() {
    let site = with_a_failing_monitor().await;
    site.smtp.fault(json!({"at": "TAKEN", "delay": 30, "count": 2}));
    let node = site.serve().await;
    site.until_mails(2).await;
    node.kill();
    assert_eq!(site.number("SELECT count(*) FROM notifications WHERE status = 'sending' AND attempts = 1").await, 2);

    let node = site.serve().await;
    site.until("SELECT count(*) FROM notifications WHERE status = 'sent' AND attempts = 2", 2).await;
    assert!(node.terminate().await.success());
    let mails = site.smtp.mails();
    let ids: HashSet<_> = mails.iter().map(|mail| mail.header("Message-ID").unwrap()).collect();
    assert_eq!((mails.len(), ids.len()), (4, 2), "each mail twice, under its own id");
    let figures = truth::check(&mut site.database().await, &mails).await;
    assert_eq!((figures.incidents, figures.notifications, figures.duplicates), (1, 2, 2));
}

#[tokio::test]
async fn killed_before_the_server_has_it_sends_once() {
    let site = with_a_failing_monitor().await;
    site.smtp.fault(json!({"at": "DATA", "delay": 30, "count": 2}));
    let node = site.serve().await;
    site.until("SELECT count(*) FROM notifications WHERE status = 'sending'", 2).await;
    while site.smtp.pending_faults() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    node.kill();

    let node = site.serve().await;
    site.until("SELECT count(*) FROM notifications WHERE status = 'sent' AND attempts = 2", 2).await;
    assert!(node.terminate().await.success());
    let figures = truth::check(&mut site.database().await, &site.smtp.mails()).await;
    assert_eq!((figures.mails, figures.duplicates), (2, 0));
}
