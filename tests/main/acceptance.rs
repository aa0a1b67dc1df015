//! The acceptance checklist of the runbook: eight steps, with the real binary, a real database and a real mail server.

use crate::support::node::{EVERY_SECOND, Node, RARELY, SOON, people, quoted, wait_until};

const OPS: &str = r#"'["ops@x.test"]'"#;

/// Step 1. The first start makes the database with all its tables; another start changes nothing.
#[test]
fn step_1_migration_sanity() {
    let mut node = Node::new();
    assert!(!node.database().exists());
    let said = node.start();
    assert!(said.contains(&node.database().display().to_string()), "it says where the database is: {said}");
    assert_eq!(node.sql("PRAGMA integrity_check"), "ok");
    assert_eq!(node.sql("PRAGMA journal_mode"), "wal");
    for (table, columns) in CONTRACT {
        let known = node.sql(&format!("SELECT name FROM pragma_table_info({})", quoted(table)));
        for column in columns.split(' ') {
            assert!(known.lines().any(|name| name == column), "{table}.{column} is missing among {known}");
        }
    }
    let monitor = node.register("Kept", RARELY, &[]);
    node.wait_for_runs(monitor, 1);
    let before = (node.sql("SELECT * FROM _sqlx_migrations"), node.sql("SELECT * FROM monitors"));
    assert!(node.stop().success());
    let migrated = node.watchbell(["migrate"]);
    assert!(migrated.status.success(), "{migrated:?}");
    node.start();
    assert_eq!(before, (node.sql("SELECT * FROM _sqlx_migrations"), node.sql("SELECT * FROM monitors")));
}

/// Step 2. An INSERT becomes a cron job of the running node, which says when it comes next.
#[test]
fn step_2_cron_registration() {
    let node = Node::started();
    let seconds = node.register("Each second", EVERY_SECOND, &[]);
    let yearly = node.register("Rarely", RARELY, &[("timezone", "'Europe/Berlin'")]);
    node.wait_for_runs(seconds, 4);
    node.wait_for_runs(yearly, 1);
    let causes = node.sql(&format!("SELECT cause FROM monitor_runs WHERE monitor_id = {seconds} ORDER BY id LIMIT 3"));
    assert_eq!(causes, "first\nschedule\nschedule", "checked at once, then at its ticks");
    let gaps = node.sql(&format!(
        "SELECT DISTINCT round((julianday(b.tick_at) - julianday(a.tick_at)) * 86400, 3) FROM monitor_runs a \
         JOIN monitor_runs b ON b.monitor_id = a.monitor_id AND b.id = (SELECT min(id) FROM monitor_runs c \
           WHERE c.monitor_id = a.monitor_id AND c.id > a.id) \
         WHERE a.monitor_id = {seconds} AND a.tick_at IS NOT NULL"
    ));
    assert_eq!(gaps, "1.0", "no tick is missing between the first and the last");
    assert_eq!(node.sql(&format!("SELECT count(*) FROM monitor_runs WHERE monitor_id = {yearly}")), "1");
    let next = node.column(yearly, "strftime('%m-%d %H', next_run_at)");
    assert_eq!(next, "02-28 23", "midnight of 29 February in Berlin, in UTC");
    let told = node.watchbell(["next", "Rarely", "-n", "1"]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("02-28T23:00:00"), "{told:?}");
}

/// Step 3. The first failure alerts at once, once, and the mail says what a person needs.
#[test]
fn step_3_first_failure_alert() {
    let node = Node::started_with_mail();
    let monitor = node.register("Orders", EVERY_SECOND, &[("people_to_notify", OPS), ("timezone", "'Europe/Berlin'")]);
    node.wait_for_runs(monitor, 2);
    assert!(node.smtp().mails().is_empty(), "nobody is told that all is well");
    node.break_with("Orders", "no order since noon: ask the shop");
    let mail = node.wait_for_mails("Orders", 1).remove(0);
    assert_eq!(
        (mail.subject.as_str(), mail.rcpt.as_slice()),
        ("[Monitor ALERT] Orders", &["ops@x.test".to_owned()][..])
    );
    let text = mail.text.unwrap();
    let tick = node.column(monitor, "strftime('%Y-%m-%dT%H:%M:%SZ', last_notification_at)");
    for line in ["Monitor: Orders", "State: alert", "Notification: alert", &format!("Time: {tick} = "), "Europe/Berlin"]
    {
        assert!(text.contains(line), "`{line}` is missing in {text}");
    }
    assert!(text.contains("\n\nno order since noon: ask the shop\n"), "the child's words, as they are: {text}");
    let failures = node.runs(monitor) + 2;
    node.wait_for_runs(monitor, failures);
    assert_eq!(node.told("Orders"), ["[Monitor ALERT]"], "further failures tell nobody within the hour");
    assert_eq!(node.column(monitor, "state, consecutive_ok_count, last_notification_type"), "alert|0|alert");
    assert_eq!(
        node.sql("SELECT opening_message, recovered_at IS NULL FROM incidents"),
        "no order since noon: ask the shop|1"
    );
    assert_eq!(
        node.sql("SELECT state_before, state_after, is_ok FROM monitor_runs WHERE notification_type = 'alert'"),
        "ok|alert|0"
    );
    node.wait_for_delivery();
    assert_eq!(node.sql("SELECT type, recipient, status, attempts FROM notifications"), "alert|ops@x.test|sent|1");
}

/// Step 4. Reminders come when `reminder_frequency_minutes` have passed: at 60 once an hour, at 0 at every failing run,
/// at NULL never.
#[test]
fn step_4_reminder_cadence() {
    let node = Node::started_with_every_mail();
    let named = |name: &str, minutes: &str| {
        node.break_with(name, "down");
        let columns = [("people_to_notify", OPS), ("reminder_frequency_minutes", minutes)];
        let monitor = node.register(name, RARELY, &columns);
        node.wait_for_mails(name, 1);
        monitor
    };
    let (hourly, always, never) = (named("Hourly", "60"), named("Always", "0"), named("Never", "NULL"));
    for monitor in [hourly, always, never] {
        node.recheck(monitor);
        node.recheck(monitor);
    }
    node.wait_for_mails("Always", 3);
    assert_eq!(node.told("Always"), ["[Monitor ALERT]", "[Monitor REMINDER]", "[Monitor REMINDER]"]);
    assert_eq!(node.told("Hourly"), ["[Monitor ALERT]"]);

    // An hour later: no clock is set forward, the last notification is set back.
    let set_back = |span: &str| {
        node.sql(&format!(
            "UPDATE monitors SET last_notification_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', {}) WHERE id IN ({hourly}, {never})",
            quoted(span)
        ));
        for monitor in [hourly, never] {
            node.recheck(monitor);
        }
    };
    set_back("-59 minutes");
    node.wait_for_delivery();
    assert_eq!(node.told("Hourly"), ["[Monitor ALERT]"], "after 59 minutes none is due");
    set_back("-60 minutes");
    let reminder = node.wait_for_mails("Hourly", 2).remove(1);
    assert_eq!(reminder.subject, "[Monitor REMINDER] Hourly");
    assert!(reminder.header("In-Reply-To").is_some(), "a reminder hangs under its alert: {}", reminder.data);
    assert_eq!(node.column(hourly, "last_notification_type"), "reminder");
    node.recheck(hourly);
    node.wait_for_delivery();
    assert_eq!(node.told("Hourly"), ["[Monitor ALERT]", "[Monitor REMINDER]"], "the next one is an hour away");
    assert_eq!(node.told("Never"), ["[Monitor ALERT]"]);
}

/// Step 5. An alert ends after `required_consecutive_oks` oks in a row, with one recovery; a failure in between starts
/// the count anew.
#[test]
fn step_5_anti_flap_recovery() {
    let node = Node::started_with_mail();
    let monitor = node.register("Flapping", RARELY, &[("people_to_notify", OPS), ("required_consecutive_oks", "3")]);
    node.wait_for_runs(monitor, 1);
    // Each letter is a run; what must stand in the row after it.
    let script = [
        ('f', "alert|0"),
        ('o', "alert|1"),
        ('o', "alert|2"),
        ('f', "alert|0"),
        ('o', "alert|1"),
        ('o', "alert|2"),
        ('o', "ok|0"),
        ('o', "ok|0"),
    ];
    for (step, (outcome, expected)) in script.into_iter().enumerate() {
        match outcome {
            'o' => node.heal("Flapping"),
            _ => node.break_with("Flapping", "down"),
        }
        node.recheck(monitor);
        assert_eq!(node.column(monitor, "state, consecutive_ok_count"), expected, "after step {step}");
    }
    node.wait_for_delivery();
    assert_eq!(node.told("Flapping"), ["[Monitor ALERT]", "[Monitor RECOVERED]"]);
    let recovery = node.mails("Flapping").remove(1).text.unwrap();
    assert!(recovery.contains("State: ok") && recovery.contains("all is well"), "{recovery}");
    assert_eq!(node.sql("SELECT count(*), sum(recovered_at IS NULL) FROM incidents"), "1|0");
}

/// Step 6. Whatever goes wrong in a child is a failed outcome with a message that helps. (Panics and blocked threads
/// need a child that misbehaves so: `engine.rs`.)
#[test]
fn step_6_exception_path() {
    let node = Node::started_with_mail();
    node.write_plugin("hangs", "#!/bin/sh\nexec sleep 60\n");
    node.write_plugin("killed", "#!/bin/sh\nkill -9 $$\n");
    node.write_plugin("odd", "#!/bin/sh\necho what a day; exit 77\n");
    node.write_plugin("silent", "#!/bin/sh\nexit 2\n");
    let columns = |config: &str| [("config", quoted(config)), ("people_to_notify", people(&["ops@x.test"]))];
    let register = |name: &str, config: &str, timeout: &str| {
        let columns = columns(config);
        let mut columns: Vec<(&str, &str)> = columns.iter().map(|(column, value)| (*column, value.as_str())).collect();
        columns.push(("timeout_seconds", timeout));
        node.register(name, RARELY, &columns);
    };
    register("Hangs", r#"{"program": "hangs"}"#, "1");
    register("Killed", r#"{"program": "killed"}"#, "30");
    register("Odd", r#"{"program": "odd"}"#, "30");
    register("Silent", r#"{"program": "silent"}"#, "30");
    register("Missing", r#"{"program": "no_such_program"}"#, "30");
    for (name, words) in [
        ("Hangs", &["1"][..]),
        ("Killed", &["signal"]),
        ("Odd", &["77", "what a day"]),
        ("Silent", &["No output"]),
        ("Missing", &["no_such_program", "plugin"]),
    ] {
        let text = node.wait_for_mails(name, 1).remove(0).text.unwrap();
        let message = node.sql(&format!("SELECT last_result_message FROM monitors WHERE name = {}", quoted(name)));
        assert!(text.contains(&message), "the mail holds the message: {text}");
        for word in words {
            assert!(message.contains(word), "{name}: `{word}` is missing in: {message}");
        }
        assert_eq!(node.sql(&format!("SELECT state FROM monitors WHERE name = {}", quoted(name))), "alert");
    }
}

/// Step 7. An inactive monitor stays as it is: nothing is written, no child is called.
#[test]
fn step_7_inactive_monitor() {
    let node = Node::started_with_mail();
    let born_paused = node.register("Born paused", EVERY_SECOND, &[("is_active", "0"), ("people_to_notify", OPS)]);
    let paused = node.register("Paused later", EVERY_SECOND, &[("people_to_notify", OPS)]);
    let witness = node.register("Witness", EVERY_SECOND, &[]);
    node.wait_for_runs(paused, 2);
    node.break_with("Born paused", "down");
    node.sql(&format!("UPDATE monitors SET is_active = 0 WHERE id = {paused}"));
    node.break_with("Paused later", "down");
    // A run that had begun is discarded; after two more runs of another monitor none is going on.
    node.wait_for_runs(witness, node.runs(witness) + 2);
    let look = || {
        let rows = node.sql(&format!("SELECT * FROM monitors WHERE id IN ({born_paused}, {paused})"));
        (rows, node.runs(born_paused), node.runs(paused), node.calls("Born paused"), node.calls("Paused later"))
    };
    let before = look();
    node.sql(&format!("UPDATE monitors SET last_run_at = NULL WHERE id = {born_paused} AND is_active = 1"));
    node.wait_for_runs(witness, node.runs(witness) + 2);
    assert_eq!(look(), before);
    assert_eq!((before.1, before.3), (0, 0), "the one born paused was never called");
    assert!(node.smtp().mails().is_empty());
    assert_eq!(node.sql(&format!("SELECT status FROM monitor_status WHERE id = {paused}")), "paused");
    // The job stays: active again, it goes on.
    node.sql(&format!("UPDATE monitors SET is_active = 1 WHERE id = {paused}"));
    node.wait_for_mails("Paused later", 1);
    wait_until("its ticks go on", SOON, || node.runs(paused) > before.2 + 2);
}

/// Step 8. A kind that nobody knows fails the monitor, says what was meant, and harms no other; mended, it recovers.
#[test]
fn step_8_missing_kind() {
    let node = Node::started_with_mail();
    let columns = [("kind", "'comand'"), ("people_to_notify", OPS), ("required_consecutive_oks", "1")];
    let monitor = node.register("Misspelt", EVERY_SECOND, &columns);
    let neighbour = node.register("Neighbour", EVERY_SECOND, &[]);
    let text = node.wait_for_mails("Misspelt", 1).remove(0).text.unwrap();
    assert!(text.contains("`comand`") && text.contains("did you mean `command`?"), "{text}");
    assert!(node.column(monitor, "config_error").contains("did you mean `command`?"));
    node.wait_for_runs(neighbour, 3);
    assert_eq!(node.column(neighbour, "state, config_error IS NULL"), "ok|1");
    assert_eq!(node.calls("Misspelt"), 0);
    node.sql(&format!("UPDATE monitors SET kind = 'command' WHERE id = {monitor}"));
    let mails = node.wait_for_mails("Misspelt", 2);
    assert_eq!(mails[1].subject, "[Monitor RECOVERED] Misspelt");
    assert_eq!(node.column(monitor, "state, config_error IS NULL"), "ok|1");
}

/// The tables of the public contract that this version has.
const CONTRACT: [(&str, &str); 7] = [
    (
        "monitors",
        "id uuid is_active created_at updated_at name kind schedule timezone config severity labels runs_on \
         timeout_seconds retries retry_delay_seconds state consecutive_ok_count required_consecutive_oks \
         required_consecutive_alerts consecutive_alert_count reminder_frequency_minutes people_to_notify \
         missed_tick_policy last_tick_at last_run_at last_result_message last_notification_at \
         last_notification_type next_run_at config_error",
    ),
    (
        "monitor_runs",
        "id monitor_id cause tick_at started_at duration_ms is_ok message metrics state_before state_after \
         notification_type node",
    ),
    (
        "incidents",
        "id uuid monitor_id opened_at opening_message acknowledged_at acknowledged_by acknowledgment_note \
         acknowledged_until recovered_at",
    ),
    (
        "notifications",
        "id uuid monitor_id incident_id type severity recipient subject body status attempts next_attempt_at \
         created_at sent_at last_error merged_into",
    ),
    ("nodes", "id name labels started_at lease_until version"),
    ("monitor_status", "id name state status since incident_id is_acknowledged last_result_message next_run_at"),
    ("outbox_backlog", "recipient status notifications"),
];
