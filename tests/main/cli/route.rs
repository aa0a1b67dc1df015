//! `route test`: who would be told, by which rule, and what would hold it.

use serde_json::{Value, json};

use super::Place;

/// Recipient, rule and wait of each, in order.
fn told(answer: &Value) -> Value {
    let of = |one: &Value| json!([one["recipient"], one["rule"], one["after_minutes"]]);
    answer["told"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn recipients_stand_in_their_order_with_their_rules() {
    let place = Place::migrated();
    place.add_file_monitor("orders", &["--notify", "ops@example.com", "--label", "team=shop", "--severity", "warning"]);
    place.sql(
        "INSERT INTO routes (severity, selector, recipients, after_minutes, unless_acknowledged) VALUES
           ('critical', 'team=shop', '[\"boss@example.com\"]', 60, 1),
           (NULL, 'team=shop', '[\"late@example.com\"]', 15, 0),
           ('critical', NULL, '[\"duty@example.com\", \"no-such-channel\"]', 0, 0),
           (NULL, 'team=other', '[\"other@example.com\"]', 0, 0)",
    );
    let warning = place.json(&["route", "test", "orders"]);
    let expected = json!([["ops@example.com", "people_to_notify", 0], ["late@example.com", "route 2", 15]]);
    assert_eq!(told(&warning), expected);
    let critical = place.json(&["route", "test", "orders", "--severity", "critical"]);
    let expected = json!([
        ["ops@example.com", "people_to_notify", 0],
        ["duty@example.com", "route 3", 0],
        ["late@example.com", "route 2", 15],
        ["boss@example.com", "route 1", 60],
    ]);
    assert_eq!(told(&critical), expected);
    assert!(critical["faults"][0].as_str().unwrap().contains("route 3: recipients: \"no-such-channel\""), "{critical}");
    let text = place.out(&["route", "test", "orders", "--severity", "critical"]);
    for line in [
        "  at once: ops@example.com, by people_to_notify\n",
        "  after 60 min, unless it is acknowledged: boss@example.com, by route 1 \
         (critical, where team=shop, after 60 min unless acknowledged)\n",
        "fault: route 3: ",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(place.run(&["route", "test", "orders", "--severity", "bad"]).status, 2);
    assert_eq!(place.run(&["route", "test", "order"]).status, 1);
    assert!(place.mails().is_empty() && place.json(&["outbox"]) == json!([]), "nothing is written or sent");
}

#[test]
fn what_would_hold_it_now_is_told() {
    let place = Place::migrated();
    place.sql("INSERT INTO channels (name, url) VALUES ('hook', 'mailto:a@example.com')");
    place.add_file_monitor("orders", &["--notify", "hook", "--severity", "warning"]);
    place.add_file_monitor("db", &["--notify", "dba@example.com"]);
    let held = || {
        let answer = place.json(&["route", "test", "orders"]);
        let word = |key: &str| answer["told"][0]["held_now"][key].as_str().unwrap_or_default().to_owned();
        (word("reason"), word("text"))
    };
    assert_eq!(held(), (String::new(), String::new()));

    place.sql("INSERT INTO dependencies (child_id, parent_id) VALUES (1, 2)");
    assert_eq!(held().0, "dependency");
    place.out(&["run", "db"]);
    assert_eq!(held(), ("dependency 2".to_owned(), "its parent 2 `db`, which is down".to_owned()));
    place.sql("UPDATE channels SET quiet_hours = '00:00-23:59', quiet_timezone = 'UTC'");
    let is_last_minute = place.json(&["route", "test", "orders"])["told"][0]["held_now"]["reason"] == "dependency 2";
    assert!(is_last_minute || held().0 == "quiet_hours");
    assert_ne!(
        place.json(&["route", "test", "orders", "--severity", "critical"])["told"][0]["held_now"]["reason"],
        "quiet_hours"
    );
    place.sql("INSERT INTO silences (selector, ends_at, created_by) VALUES ('name=orders', '2099-01-01', 'alice')");
    assert_eq!(held(), ("silence 1".to_owned(), "silence 1 (by alice)".to_owned()));
    place.sql("UPDATE channels SET is_active = 0");
    assert_eq!(held(), ("channel_off".to_owned(), "its channel, which is switched off".to_owned()));
    let text = place.out(&["route", "test", "orders"]);
    assert!(text.contains("    held now by its channel, which is switched off, looked at again 20"), "{text}");
    place.sql("UPDATE channels SET url = 'ntfy+https://ntfy.sh/ops#tokn=hunter2', is_active = 1");
    let text = place.out(&["route", "test", "orders"]);
    assert!(text.contains("its channel cannot be used: ") && !text.contains("hunter2"), "{text}");
}

#[test]
fn nobody_is_told_is_said_with_its_reason() {
    let place = Place::migrated();
    place.add_file_monitor("muted", &["--notify-nobody"]);
    place.add_file_monitor("unnamed", &[]);
    place.sql("INSERT INTO routes (severity, recipients) VALUES ('critical', '[\"ops@example.com\"]')");
    let muted = place.json(&["route", "test", "muted"]);
    assert_eq!(muted["nobody_told_because"], "people_to_notify is `[]`: nobody at all, routes included");
    assert_eq!(muted["severities_told_to_nobody"], json!(["critical", "warning", "info"]));
    let unnamed = place.json(&["route", "test", "unnamed"]);
    assert_eq!(told(&unnamed), json!([["ops@example.com", "route 1", 0]]));
    let text = place.out(&["route", "test", "unnamed"]);
    assert!(text.contains("of severity warning, info nobody would be told"), "{text}");
    let text = place.out(&["route", "test", "unnamed", "--severity", "info"]);
    assert!(
        text.contains("nobody is told: neither people_to_notify nor a route names a recipient that there is"),
        "{text}"
    );
    place.out(&["pause", "unnamed"]);
    assert!(place.out(&["route", "test", "unnamed"]).contains("the monitor is paused"));
}
