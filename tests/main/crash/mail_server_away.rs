//! The mail server is away, or refuses: what is owed waits, or is told by what follows it, and one bad address holds up
//! nobody.

use serde_json::json;

use super::site::Site;
use super::truth;

/// Asks for a check, and waits until it is written.
async fn recheck(site: &Site, runs: i64) {
    site.execute("UPDATE monitors SET last_run_at = NULL").await;
    site.until("SELECT count(*) FROM monitor_runs", runs).await;
}

async fn register(site: &Site, people: &str) {
    let config = json!({"path": site.text_path("broken"), "exists": false});
    std::fs::write(site.path("broken"), "").unwrap();
    site.execute(&format!(
        "INSERT INTO monitors (name, kind, schedule, config, required_consecutive_oks, reminder_frequency_minutes, \
           people_to_notify) VALUES ('Orders', 'file', '@every 1h', '{config}', 1, 0, '{people}')"
    ))
    .await;
}

#[tokio::test]
async fn alert_reminder_and_recovery_outlive_a_mail_server_that_is_away_and_a_restart() {
    let site = Site::new();
    site.smtp.fault(json!({"at": "CONNECT", "reply": "421 4.3.2 away", "count": 1_000_000}));
    register(&site, r#"["ops@y.test", "boss@y.test"]"#).await;

    let node = site.serve().await;
    site.until("SELECT count(*) FROM monitor_runs", 1).await;
    site.until("SELECT count(*) FROM notifications WHERE attempts > 0 AND last_error LIKE '%421 4.3.2 away%'", 2).await;
    recheck(&site, 2).await;
    assert!(node.terminate().await.success());

    let node = site.serve().await;
    std::fs::remove_file(site.path("broken")).unwrap();
    recheck(&site, 3).await;
    // What nobody could be told before the recovery is told with it, so that no alert comes after its recovery.
    let waits = "SELECT count(*) FROM notifications a JOIN notifications r ON r.id = a.merged_into \
        WHERE a.type IN ('alert', 'reminder') AND a.status = 'merged' AND r.type = 'recovery' AND r.recipient = a.recipient";
    site.until(waits, 4).await;
    node.kill();

    assert!(site.smtp.mails().is_empty());
    site.smtp.clear();
    let node = site.serve().await;
    site.until("SELECT count(*) FROM notifications WHERE status NOT IN ('sent', 'merged')", 0).await;
    assert!(node.terminate().await.success());
    let mails = site.smtp.mails();
    let figures = truth::check(&mut site.database().await, &mails).await;
    assert_eq!((figures.notifications, figures.mails, figures.duplicates), (6, 2, 0));
    for mail in mails {
        let text = mail.text.unwrap();
        assert!(mail.subject == "[Monitor RECOVERED] Orders" && text.contains("Was down: "), "{text}");
    }
}

#[tokio::test]
async fn a_refused_address_is_given_up_and_holds_up_nobody() {
    let site = Site::new();
    register(&site, r#"["a@y.test", "hard@y.test", "b@y.test"]"#).await;
    let node = site.serve().await;
    site.until("SELECT count(*) FROM notifications WHERE status = 'sent'", 2).await;
    std::fs::remove_file(site.path("broken")).unwrap();
    recheck(&site, 2).await;
    site.until("SELECT count(*) FROM notifications WHERE status = 'sent'", 4).await;
    let refused = "SELECT count(*) FROM notifications WHERE recipient = 'hard@y.test' AND status = 'failed' \
        AND attempts = 1 AND last_error LIKE '%550 5.1.1 no such mailbox%'";
    // The alert, and the recovery that is owed to everyone whom a notification was meant for.
    site.until(refused, 2).await;
    assert!(node.terminate().await.success());
    let subjects: Vec<_> = site.smtp.mails().into_iter().map(|mail| (mail.rcpt[0].clone(), mail.subject)).collect();
    for recipient in ["a@y.test", "b@y.test"] {
        let received: Vec<_> = subjects.iter().filter(|(to, _)| to == recipient).map(|(_, subject)| subject).collect();
        assert_eq!(received, ["[Monitor ALERT] Orders", "[Monitor RECOVERED] Orders"], "{recipient}");
    }
    assert_eq!(subjects.len(), 4);
}
