//! Rows that cannot be run as written, and children that say what no text may hold: each is told of, none harms another.

use serde_json::json;

use crate::support::node::{Node, RARELY, people, quoted};

const OPS: &str = r#"'["ops@x.test"]'"#;
const PROBE: &str = r#"'{"program": "probe", "args": ["mended"]}'"#;

/// A name, what is wrong in the row, what its message must hold, and what mends it.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str], &'static str);

const CASES: [Case; 11] = [
    (
        "Unknown kind",
        &[("kind", "'carrier_pigeon'")],
        &["`carrier_pigeon` is not a kind of this installation", "it knows command"],
        "kind = 'command'",
    ),
    (
        "Misspelt kind",
        &[("kind", "'Command'")],
        &["`Command` is not a kind", "did you mean `command`?"],
        "kind = 'command'",
    ),
    (
        "Wrong types",
        &[("kind", "'tcp'"), ("config", r#"'{"host": 5, "port": "eighty"}'"#)],
        &["host: expected", "port: expected"],
        "kind = 'command'",
    ),
    ("Nothing said", &[("config", "'{}'")], &["program"], ""),
    ("Unknown key", &[("config", r#"'{"program": "probe", "arguments": ["x"]}'"#)], &["arguments", "args"], ""),
    ("Never", &[("schedule", "'0 0 30 2 *'")], &["0 0 30 2 *", "hint"], ""),
    ("No cron", &[("schedule", "'every minute'")], &["every minute", "hint"], ""),
    ("Seven fields", &[("schedule", "'0 0 0 1 1 * 2030'")], &["0 0 0 1 1 * 2030", "hint"], ""),
    ("Nowhere", &[("timezone", "'Europe/Berln'")], &["Europe/Berln", "hint"], "timezone = NULL"),
    ("Program with a path", &[("config", r#"'{"program": "../../bin/sh"}'"#)], &["../../bin/sh"], ""),
    (
        "Everything at once",
        &[("kind", "'htpp'"), ("schedule", "'0 0 30 2 *'"), ("people_to_notify", r#"'["ops@x.test", "nobody"]'"#)],
        &["`htpp` is not a kind", "0 0 30 2 *"],
        "kind = 'command', people_to_notify = '[\"ops@x.test\"]'",
    ),
];

#[test]
fn an_unreadable_row_alerts_says_why_and_recovers_once_it_is_mended() {
    let node = Node::started_with_mail();
    let neighbour = Neighbour::registered(&node, "Neighbour", 1, &[]);
    let monitors = CASES.map(|(name, wrong, _, _)| {
        let once = [("people_to_notify", OPS), ("required_consecutive_oks", "1")];
        let columns: Vec<(&str, &str)> = once.into_iter().chain(wrong.iter().copied()).collect();
        node.register(name, RARELY, &columns)
    });
    for (monitor, (name, _, words, _)) in monitors.into_iter().zip(CASES) {
        let alert = node.wait_for_mails(name, 1).remove(0);
        assert_eq!(alert.subject, format!("[Monitor ALERT] {name}"));
        let error = node.column(monitor, "config_error");
        let text = alert.text.unwrap();
        for word in words {
            assert!(error.contains(word), "{name}: `{word}` is missing in config_error: {error}");
            assert!(text.contains(word), "{name}: `{word}` is missing in the mail: {text}");
        }
        assert!(text.contains("this monitor cannot be run as written"), "{text}");
        assert_eq!(node.column(monitor, "state, next_run_at IS NOT NULL"), "alert|1", "{name}: it is tried again");
    }
    // Half mended is not mended, and no second alert.
    let everything = monitors[10];
    node.sql(&format!("UPDATE monitors SET kind = 'command' WHERE id = {everything}"));
    node.wait_for_truth(&format!("SELECT config_error NOT LIKE '%htpp%' FROM monitors WHERE id = {everything}"));
    assert_eq!(node.column(everything, "state"), "alert");
    for (monitor, (_, _, _, mend)) in monitors.into_iter().zip(CASES) {
        let comma = if mend.is_empty() { "" } else { ", " };
        node.sql(&format!(
            "UPDATE monitors SET schedule = {}, config = {PROBE}{comma}{mend} WHERE id = {monitor}",
            quoted(RARELY)
        ));
    }
    for (monitor, (name, ..)) in monitors.into_iter().zip(CASES) {
        let mails = node.wait_for_mails(name, 2);
        assert_eq!(mails[1].subject, format!("[Monitor RECOVERED] {name}"));
        assert_eq!(node.column(monitor, "state, config_error IS NULL"), "ok|1", "{name}");
    }
    node.wait_for_delivery();
    assert_eq!(node.smtp().mails().len(), 2 * CASES.len(), "one alert and one recovery each");
    neighbour.was_undisturbed(&node);
}

#[test]
fn bad_recipients_are_passed_over_and_admins_told_where_none_is_left() {
    let mut node = Node::new().with_mail().with("WATCHBELL_ADMINS", r#"["admin@x.test"]"#);
    node.start();
    let register = |name: &str, recipients: &str| {
        node.break_with(name, "down");
        node.register(name, RARELY, &[("people_to_notify", recipients)])
    };
    let some = register("Some bad", r#"'["no address", "ops@x.test", 7, "ops@x.test", "a@b\r\nBcc: c@d"]'"#);
    let all = register("All bad", r#"'["no address", null]'"#);
    let empty = register("Nobody wanted", "'[]'");
    let refused = register("One refused", r#"'["hard@x.test", "ops@x.test"]'"#);
    let to = |name: &str, count: usize| {
        let mut to: Vec<String> = node.wait_for_mails(name, count).into_iter().flat_map(|mail| mail.rcpt).collect();
        to.sort();
        to
    };
    assert_eq!(to("Some bad", 1), ["ops@x.test"]);
    let error = node.column(some, "config_error");
    for bad in ["no address", "7 is not a recipient", "Bcc"] {
        assert!(error.contains(bad), "`{bad}` is missing in {error}");
    }
    assert_eq!(to("All bad", 1), ["admin@x.test"]);
    assert!(node.column(all, "config_error").contains("no address"));
    assert_eq!(to("One refused", 1), ["ops@x.test"], "one refused address holds up nobody");
    node.wait_for_delivery();
    assert_eq!(
        node.sql(&format!(
            "SELECT recipient, status FROM notifications WHERE monitor_id = {refused} ORDER BY recipient"
        )),
        "hard@x.test|failed\nops@x.test|sent"
    );
    assert_eq!(node.column(empty, "state, config_error IS NULL"), "alert|1", "`[]` is no error");
    assert_eq!(node.smtp().mails().len(), 3);
    // The check runs as usual, and an edit of the recipients alone mends them.
    node.sql(&format!("UPDATE monitors SET people_to_notify = {} WHERE id = {some}", people(&["ops@x.test"])));
    node.wait_for_truth(&format!("SELECT config_error IS NULL FROM monitors WHERE id = {some}"));
}

#[test]
fn labels_that_are_no_texts_are_told_of_and_the_check_runs() {
    let node = Node::started();
    let monitor = node.register("Labelled", RARELY, &[("labels", r#"'{"team": "shop", "tier": 1}'"#)]);
    node.wait_for_runs(monitor, 1);
    assert_eq!(node.column(monitor, "state"), "ok");
    assert!(node.column(monitor, "config_error").contains("labels.tier: expected a text"));
    node.sql(&format!("UPDATE monitors SET labels = '{{\"tier\": \"1\"}}' WHERE id = {monitor}"));
    node.wait_for_truth(&format!("SELECT config_error IS NULL FROM monitors WHERE id = {monitor}"));
}

#[test]
fn what_the_database_can_refuse_is_refused_with_a_reason_that_people_can_read() {
    let node = Node::started();
    let insert = |column: &str, value: &str| {
        let others = ["name", "kind", "schedule"].into_iter().filter(|other| *other != column);
        let columns: Vec<&str> = others.chain([column]).collect();
        let values: Vec<&str> = columns.iter().map(|known| if *known == column { value } else { "'x'" }).collect();
        node.try_sql(&format!("INSERT INTO monitors ({}) VALUES ({})", columns.join(", "), values.join(", ")))
    };
    for (column, value, reason) in [
        ("name", "printf('%1000000c', 'x')", "name_has_1_to_500_characters"),
        ("name", "''", "name_has_1_to_500_characters"),
        ("name", "NULL", "NOT NULL constraint failed: monitors.name"),
        ("config", r#"'{"url": '"#, "config_is_a_json_object"),
        ("config", "'[]'", "config_is_a_json_object"),
        ("people_to_notify", "'ops@x.test'", "people_to_notify_is_a_json_array"),
        ("people_to_notify", r#"'["ops@x.test"'"#, "people_to_notify_is_a_json_array"),
        ("labels", "'team=shop'", "labels_is_a_json_object"),
        ("severity", "'Critical'", "severity_is_critical_warning_or_info"),
        ("state", "'OK'", "state_is_ok_or_alert"),
        ("is_active", "2", "is_active_is_0_or_1"),
        ("timeout_seconds", "0", "timeout_seconds_is_1_to_86400"),
        ("timeout_seconds", "'soon'", "timeout_seconds_is_1_to_86400"),
        ("missed_tick_policy", "'never'", "missed_tick_policy_is_run_once_or_skip"),
        ("last_run_at", "'yesterday'", "a time cannot be read; write it in UTC as"),
    ] {
        let error = insert(column, value).expect_err(column);
        assert!(error.contains(reason), "{column} = {value:.40}: {error}");
    }
    assert_eq!(node.number("SELECT count(*) FROM monitors"), 0);
}

#[test]
fn nul_and_invalid_utf8_from_a_program_are_made_safe() {
    let node = Node::started_with_mail();
    node.write_plugin("binary", "#!/bin/sh\nprintf 'a\\000b\\377c \\033[31mred \\303\\251t\\303\\251'\nexit 2\n");
    let config = ("config", r#"'{"program": "binary"}'"#);
    let monitor = node.register("Binary", RARELY, &[config, ("people_to_notify", OPS)]);
    let text = node.wait_for_mails("Binary", 1).remove(0).text.unwrap();
    let message = node.column(monitor, "last_result_message");
    assert!(message.contains("\u{fffd}") && message.contains("été"), "{message:?}");
    assert!(!message.chars().any(char::is_control), "{message:?}");
    assert!(text.contains(&message), "{text:?}");
    assert_eq!(node.column(monitor, "instr(last_result_message, char(0))"), "0");
}

#[test]
fn a_name_of_several_lines_makes_a_safe_subject() {
    let node = Node::started_with_mail();
    let name =
        "'Orders' || char(13, 10) || 'Bcc: eve@x.test' || char(10) || char(8232) || '\"Ünïcode\" ' || char(127881)";
    node.register("x", RARELY, &[("name", name), ("kind", "'nothing'"), ("people_to_notify", OPS)]);
    let mails = node.wait_for_mails("Orders Bcc: eve@x.test \"Ünïcode\" 🎉", 1);
    assert_eq!(mails[0].rcpt, ["ops@x.test"]);
    assert!(mails[0].header("Bcc").is_none());
}

#[test]
fn texts_that_are_no_utf8_or_hold_a_nul_are_watched_like_any_other() {
    let node = Node::started_with_mail();
    let name = ("name", "CAST(x'4EFF' AS TEXT)");
    node.register("x", RARELY, &[name, ("kind", "'nothing'"), ("people_to_notify", OPS)]);
    node.wait_for_mails("N\u{fffd}", 1);
    let name = ("name", "'with' || char(0) || 'NUL'");
    node.register("x", RARELY, &[name, ("kind", "'nothing'"), ("people_to_notify", OPS)]);
    node.wait_for_mails("with NUL", 1);
    let listed = node.watchbell(["list", "--json"]);
    assert!(listed.status.success() && String::from_utf8_lossy(&listed.stdout).contains("NUL"), "{listed:?}");
    assert_eq!(node.log_lines_with("cannot be read"), 0);
}

#[test]
fn secrets_that_a_row_may_not_use_stay_secret() {
    let mut node =
        Node::new().with_mail().with("TOP_SECRET", "hunter2hunter2").with("WATCHBELL_SECRET_OK", "letmein99");
    node.write_plugin("telltale", "#!/bin/sh\necho \"it is [$VALUE]\"\nexit 2\n");
    node.start();
    let register = |name: &str, value: &str| {
        let config = json!({"program": "telltale", "env": {"VALUE": value}}).to_string();
        node.register(name, RARELY, &[("config", &quoted(&config)), ("people_to_notify", OPS)])
    };
    register("Variable", "${env:TOP_SECRET}");
    register("File", "${file:/etc/passwd}");
    register("Allowed", "${env:WATCHBELL_SECRET_OK}");
    register("Not there", "${env:WATCHBELL_SECRET_MISSING}");
    let config = json!({"program": "telltale", "args": ["${env:WATCHBELL_SECRET_OK}"]}).to_string();
    node.register("Not a secret field", RARELY, &[("config", &quoted(&config)), ("people_to_notify", OPS)]);
    let message = |name: &str| {
        node.wait_for_mails(name, 1);
        node.sql(&format!("SELECT last_result_message FROM monitors WHERE name = {}", quoted(name)))
    };
    for (name, reference) in [("Variable", "env:TOP_SECRET"), ("File", "file:/etc/passwd")] {
        let message = message(name);
        assert!(message.contains(reference) && message.contains("secrets.allow"), "{name}: {message}");
    }
    assert!(message("Allowed").contains("it is [***]"), "{}", message("Allowed"));
    assert!(message("Not there").contains("WATCHBELL_SECRET_MISSING"), "{}", message("Not there"));
    assert!(message("Not a secret field").contains("args"), "{}", message("Not a secret field"));
    node.wait_for_delivery();
    node.stop();
    let everything = [node.log(), node.sql(".dump")].concat() + &format!("{:?}", node.smtp().mails());
    for secret in ["hunter2", "letmein99", "root:x:0"] {
        assert!(!everything.contains(secret), "`{secret}` is told");
    }
}

#[test]
fn a_thousand_bad_rows_disturb_no_good_one() {
    let node = Node::started_with_mail();
    let good = Neighbour::registered(&node, "Good", 2, &[("people_to_notify", OPS)]);
    node.sql(
        "WITH RECURSIVE c (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < 999) \
         INSERT INTO monitors (name, kind, schedule, config) SELECT 'bad ' || n, \
           CASE n % 3 WHEN 0 THEN 'nothing' ELSE 'tcp' END, \
           CASE n % 3 WHEN 1 THEN '0 0 30 2 *' ELSE '*/4 * * * * *' END, '{\"host\": 5}' FROM c",
    );
    node.wait_for_truth("SELECT count(*) = 1000 FROM monitors WHERE config_error IS NOT NULL AND state = 'alert'");
    node.wait_for_truth("SELECT count(*) > 600 FROM monitor_runs WHERE cause = 'schedule' AND is_ok = 0");
    node.break_with("Good", "down");
    node.wait_for_mails("Good", 1);
    assert_eq!(node.column(good.id, "config_error IS NULL"), "1");
    good.was_undisturbed(&node);
}

/// A monitor that is due every `seconds`, and ran at its first tick. (The check that follows the INSERT at once may go on
/// at the tick before, which is skipped then.)
struct Neighbour {
    id: i64,
    seconds: u32,
    skipped_before: String,
}

impl Neighbour {
    fn registered(node: &Node, name: &str, seconds: u32, columns: &[(&str, &str)]) -> Self {
        let id = node.register(name, &format!("*/{seconds} * * * * *"), columns);
        node.wait_for_truth(&format!(
            "SELECT count(*) > 0 FROM monitor_runs WHERE monitor_id = {id} AND tick_at IS NOT NULL"
        ));
        Self { id, seconds, skipped_before: node.column(id, "skipped_tick_count") }
    }

    /// It ran each of its ticks.
    #[track_caller]
    fn was_undisturbed(&self, node: &Node) {
        let Self { id, seconds, .. } = self;
        node.wait_for_runs(*id, 4);
        let ran_all = node.sql(&format!(
            "SELECT count(*) = CAST(round((julianday(max(tick_at)) - julianday(min(tick_at))) * 86400 / {seconds}) AS INTEGER) + 1 \
             FROM monitor_runs WHERE monitor_id = {id} AND tick_at IS NOT NULL"
        ));
        assert_eq!(ran_all, "1");
        assert_eq!(node.column(*id, "skipped_tick_count"), self.skipped_before);
    }
}
