//! `add`, `list`, `show`, `run`, `history`, `pause`, `resume` on one database.

use serde_json::{Value, json};

use super::Place;

#[test]
fn a_monitor_is_added_run_shown_paused_and_resumed() {
    let place = Place::migrated();
    assert!(place.out(&["list"]).starts_with("no monitors;"));
    let id = place.add_file_monitor("orders", &["--notify", "ops@example.com"]);

    let dry = place.out(&["run", "orders", "--dry-run"]);
    assert!(dry.starts_with("dry run, nothing is written: `orders` failed in "), "{dry}");
    assert!(dry.contains("state ok -> alert, alert to ops@example.com (not sent): "), "{dry}");
    assert_eq!(place.json(&["list"])[0]["status"], "never run", "a dry run writes nothing");
    assert_eq!(place.json(&["history", &id]), json!([]));
    assert!(place.mails().is_empty(), "a dry run sends nothing");

    let run = place.out(&["run", &id]);
    assert!(run.contains("state ok -> alert, alert to ops@example.com (sent): ") && run.lines().count() == 1, "{run}");
    let mails = place.mails();
    assert!(mails.len() == 1 && mails[0].contains("Subject: [Monitor ALERT] orders\r\n"), "{mails:?}");
    let list = place.out(&["list"]);
    assert!(list.contains("\nalert   1   orders  ") && list.ends_with("1 monitor: 1 alert\n"), "{list}");

    place.write("orders", "x");
    let first_ok = place.json(&["run", "orders"]);
    assert_eq!((&first_ok["is_ok"], &first_ok["state_after"]), (&json!(true), &json!("alert")), "{first_ok}");
    let recovered = place.json(&["run", "orders"]);
    let told = json!([{"recipient": "ops@example.com", "status": "sent", "last_error": null}]);
    assert_eq!((&recovered["notification_type"], &recovered["notifications"]), (&json!("recovery"), &told));

    let history = place.json(&["history", "orders", "-n", "2"]);
    let runs: Vec<&Value> = history.as_array().unwrap().iter().map(|run| &run["state_after"]).collect();
    assert_eq!(runs, ["ok", "alert"], "the newest first");
    assert_eq!(place.out(&["history", "orders"]).lines().count(), 4);
    let shown = place.out(&["show", "orders"]);
    for part in ["\nname                         orders\n", "\nlatest runs\n", "\nlatest notifications\n"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let shown = place.json(&["show", "orders"]);
    assert_eq!(shown["open_incident"], Value::Null);
    assert_eq!(shown["notifications"].as_array().unwrap().len(), 2);

    assert_eq!(place.out(&["pause", "orders"]), "monitor 1 `orders` is paused: nothing runs, nothing new is sent\n");
    assert_eq!(place.out(&["pause", "orders"]), "monitor 1 `orders` was paused already\n");
    let refused = place.run(&["run", "orders"]);
    let expected =
        "error: monitor 1 `orders` is paused, so it is not run\nhint: `watchbell resume 1` ends the pause\n[1]";
    assert_eq!(refused.to_string(), expected);
    assert_eq!(place.out(&["resume", "orders"]), "monitor 1 `orders` is active again\n");
    assert_eq!(place.json(&["history", "orders"]).as_array().unwrap().len(), 3);
}

#[test]
fn the_open_incident_is_shown() {
    let place = Place::migrated();
    place.add_file_monitor("absent", &["--notify-nobody"]);
    assert!(place.out(&["run", "absent"]).contains("state ok -> alert, nobody is told: "));
    let shown = place.json(&["show", "1"]);
    assert_eq!(shown["open_incident"]["monitor_name"], "absent");
    assert!(place.out(&["show", "absent"]).contains("\nopen incident\nid  "));
    let paused = place.out(&["pause", "absent"]);
    assert!(paused.contains("is paused in alert: its incident stays open"), "{paused}");
    assert!(place.mails().is_empty());
}

#[test]
fn what_add_registers_can_be_pasted_elsewhere() {
    let (here, there) = (Place::migrated(), Place::migrated());
    let added = here.json(&[
        "add",
        "--name",
        "O'Hara's \\ file",
        "--kind",
        "file",
        "--schedule",
        "0 6 * * mon-fri",
        "--timezone",
        "Europe/Berlin",
        "--config",
        r#"{"path": "/tmp/it's", "contains": "a\\b"}"#,
        "--severity",
        "warning",
        "--label",
        "team=shop",
        "--label",
        "tier=2",
        "--notify",
        "a@example.com",
        "--notify",
        "b@example.com",
        "--timeout-seconds",
        "5",
        "--retries",
        "2",
        "--retry-delay-seconds",
        "1",
        "--required-consecutive-oks",
        "3",
        "--required-consecutive-alerts",
        "2",
        "--reminder-frequency-minutes",
        "never",
        "--missed-tick-policy",
        "skip",
        "--paused",
    ]);
    there.sql(added["insert"].as_str().unwrap());
    let of = |place: &Place| {
        let mut monitor = place.json(&["show", "1"])["monitor"].clone();
        for own in ["uuid", "created_at", "updated_at", "since"] {
            monitor.as_object_mut().unwrap().remove(own);
        }
        monitor
    };
    assert_eq!(of(&here), of(&there));
    let monitor = of(&here);
    for (column, value) in [
        ("name", json!("O'Hara's \\ file")),
        ("config", json!({"path": "/tmp/it's", "contains": "a\\b"})),
        ("labels", json!({"team": "shop", "tier": "2"})),
        ("people_to_notify", json!(["a@example.com", "b@example.com"])),
        ("reminder_frequency_minutes", Value::Null),
        ("timeout_seconds", json!(5)),
        ("is_active", json!(0)),
    ] {
        assert_eq!(monitor[column], value, "{column}");
    }
}

#[test]
fn add_refuses_what_could_not_run_as_written() {
    let place = Place::migrated();
    let add = |kind: &str, schedule: &str, config: &str, more: &[&str]| {
        let arguments = ["add", "--name", "x", "--kind", kind, "--schedule", schedule, "--config", config];
        place.run(&[&arguments[..], more].concat())
    };
    let good = r#"{"path": "/x"}"#;
    for (ended, problem) in [
        (add("fiel", "@hourly", good, &[]), "there is no kind `fiel`\nhint: did you mean `file`?"),
        (add("file", "0 0 30 2 *", good, &[]), "never fires"),
        (add("file", "@hourly", r#"{"pat": "/x"}"#, &[]), "config.pat: is not a parameter of this kind"),
        (add("file", "@hourly", "{", &[]), "config: is not JSON"),
        (add("file", "@hourly", good, &["--timezone", "Berlin"]), "did you mean `Europe/Berlin`?"),
        (add("file", "@hourly", good, &["--notify", "nobody at all"]), "people_to_notify: "),
        (add("file", "@hourly", good, &["--label", "team"]), "write it as key=value"),
        (add("file", "@hourly", good, &["--severity", "bad"]), "critical"),
        (add("file", "@hourly", good, &["--reminder-frequency-minutes", "often"]), "expected minutes, or `never`"),
    ] {
        assert!(ended.status == 2 && ended.err.contains(problem), "{problem}: {ended}");
    }
    // What only the database refuses.
    let ended = add("file", "@hourly", good, &["--timeout-seconds", "0"]);
    assert!(ended.status == 1 && ended.err.contains("timeout_seconds_is_1_to_86400"), "{ended}");
    assert_eq!(place.json(&["list"]), json!([]), "nothing of it was registered");
}

#[test]
fn a_monitor_that_tells_nobody_is_pointed_out() {
    let place = Place::migrated();
    let add = |more: &[&str]| {
        let arguments =
            ["add", "--name", "x", "--kind", "file", "--schedule", "@hourly", "--config", r#"{"path": "/x"}"#];
        place.out(&[&arguments[..], more].concat())
    };
    assert!(add(&[]).ends_with(
        "\nnobody is told of it: `--notify` names a recipient, a row of `routes` names some for many monitors\n"
    ));
    assert!(!add(&["--notify-nobody"]).contains("nobody is told"), "then it is meant so");
}

#[test]
fn an_ambiguous_name_lists_the_ids_and_an_unknown_one_its_neighbours() {
    let place = Place::migrated();
    place.sql(
        "INSERT INTO monitors (uuid, name, kind, schedule) VALUES ('u-1', 'Orders', 'file', '@hourly'),
           ('u-2', 'Orders', 'tcp', '@hourly'), ('u-3', '1', 'dns', '@hourly')",
    );
    let expected = "\
error: `Orders` names 2 monitors:
  id 1: `Orders` (kind `file`, uuid u-1)
  id 2: `Orders` (kind `tcp`, uuid u-2)
hint: name it by its id
[1]";
    for command in ["show", "run", "pause", "resume", "history", "next"] {
        assert_eq!(place.run(&[command, "Orders"]).to_string(), expected, "{command}");
    }
    let expected = "\
error: `1` names 2 monitors:
  id 1: `Orders` (kind `file`, uuid u-1)
  id 3: `1` (kind `dns`, uuid u-3)
hint: name it by its uuid
[1]";
    assert_eq!(place.run(&["show", "1"]).to_string(), expected);
    assert_eq!(place.json(&["show", "u-3"])["monitor"]["id"], 3);
    assert_eq!(place.json(&["show", "2"])["monitor"]["kind"], "tcp");
    let unknown = place.run(&["show", "order"]).to_string();
    let expected = "error: there is no monitor `order`\nhint: did you mean `Orders` (id 1) or `Orders` (id 2)?\n[1]";
    assert_eq!(unknown, expected);
    let unknown = place.run(&["show", "zzz"]).to_string();
    let expected = "\
error: there is no monitor `zzz`
hint: `watchbell list` shows all; a monitor is named by its id, uuid or name
[1]";
    assert_eq!(unknown, expected);
}

#[test]
fn a_name_cannot_steer_the_terminal() {
    let place = Place::migrated();
    place.sql(
        "INSERT INTO monitors (name, kind, schedule, people_to_notify)
         VALUES ('red' || char(27) || '[31m' || char(10) || 'x', 'file', '@hourly', '[]')",
    );
    for arguments in [
        &["list"][..],
        &["show", "1"],
        &["history", "1"],
        &["run", "1"],
        &["why", "1"],
        &["route", "test", "1"],
        &["pause", "1"],
        &["doctor"],
    ] {
        let ended = place.run(arguments);
        assert!(ended.out.contains("red") && !ended.out.contains('\u{1b}'), "{arguments:?}: {ended}");
    }
}

#[test]
fn those_in_alert_come_first() {
    let place = Place::migrated();
    place.write("a", "x");
    place.add_file_monitor("a", &["--notify-nobody"]);
    place.add_file_monitor("z", &["--notify-nobody"]);
    place.add_file_monitor("b", &["--notify-nobody"]);
    place.out(&["run", "a"]);
    place.out(&["run", "z"]);
    place.out(&["pause", "b"]);
    let list = place.json(&["list"]);
    let order: Vec<(&str, &str)> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|monitor| (monitor["status"].as_str().unwrap(), monitor["name"].as_str().unwrap()))
        .collect();
    assert_eq!(order, [("alert", "z"), ("ok", "a"), ("paused", "b")]);
}
