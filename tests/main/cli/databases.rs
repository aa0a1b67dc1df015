//! The commands, on each of the databases.

use serde_json::{Value, json};

use super::{Ended, Place};
use crate::support::mariadb::{MariaDb, PASSWORD};
use crate::support::node::{EVERY_SECOND, Node, SOON, wait_until};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::Postgres;
use crate::support::sql::{block_on, execute, rows};

/// A folder, and a migrated database that is named by the environment.
struct On {
    place: Place,
    url: String,
}

impl On {
    fn new(url: String) -> Self {
        let on = Self { place: Place::empty(), url };
        let migrated = on.run(&["migrate"]);
        let steps = "applied step 1 `core`\napplied step 2 `delivery`\napplied step 3 `nodes`\nthe tables of ";
        assert!(migrated.out.starts_with(steps) && migrated.status == 0, "{migrated}");
        assert!(migrated.out.ends_with(" are up to date, at step 3\n"), "{migrated}");
        let again = on.run(&["migrate"]);
        assert!(again.out.starts_with("nothing to do: the tables of ") && again.status == 0, "{again}");
        on
    }

    fn each() -> [Self; 3] {
        let servers =
            async { [Postgres::shared().await.fresh_database().await, MariaDb::shared().await.fresh_database().await] };
        let [postgres, mariadb] = block_on(servers);
        ["sqlite://watchbell.db".to_owned(), postgres, mariadb].map(Self::new)
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let ended = self.place.run_with(arguments, &[("WATCHBELL_DATABASE_URL", &self.url)], "");
        assert!(!ended.to_string().contains(PASSWORD), "the password is told: {arguments:?}: {ended}");
        ended
    }

    #[track_caller]
    fn out(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!((ended.status, ended.err.as_str()), (0, ""), "{}: {arguments:?}: {ended}", self.url);
        ended.out
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.out(&[arguments, &["--json"]].concat())).unwrap()
    }
}

#[test]
fn every_command_works_on_every_database() {
    for on in On::each() {
        let config = r#"{"path": "/nonexistent/d"}"#;
        let add = ["add", "--name", "Absent", "--kind", "file", "--schedule", "*/5 * * * *", "--config", config];
        let added = on.json(&[&add[..], &["--notify", "ops@example.com"]].concat());
        assert_eq!(added["id"], 1, "{added}");
        assert_eq!(on.json(&["list"])[0]["status"], "never run");
        let dry = on.out(&["run", "Absent", "--dry-run"]);
        assert!(dry.starts_with("dry run, nothing is written: `Absent` failed"), "{dry}");
        assert!(on.json(&["history", "Absent"]).as_array().unwrap().is_empty());
        let ran = on.out(&["run", "Absent"]);
        assert!(ran.contains("state ok -> alert, alert to ops@example.com (sent)"), "{ran}");
        assert_eq!(on.json(&["list"])[0]["status"], "alert");
        let shown = on.json(&["show", "Absent"]);
        assert_eq!(shown["monitor"]["config"], json!({"path": "/nonexistent/d"}), "{shown}");
        assert_eq!(shown["open_incident"]["monitor_name"], "Absent");
        let of_mysql_alone = "open_monitor_id";
        assert!(shown["open_incident"].get(of_mysql_alone).is_none(), "{shown}");
        assert!(!on.out(&["show", "Absent"]).contains(of_mysql_alone), "{shown}");
        assert_eq!(shown["runs"][0]["is_ok"], 0);
        assert_eq!(shown["notifications"][0]["status"], "sent");
        let started = shown["runs"][0]["started_at"].as_str().unwrap();
        assert!(started.ends_with('Z') && started.len() == 24, "as on SQLite: {started}");
        assert_eq!(on.json(&["history", "1"]).as_array().unwrap().len(), 1);
        let why = on.out(&["why", "Absent"]);
        assert!(why.contains("chosen by people_to_notify") && why.contains("still open"), "{why}");
        assert_eq!(on.json(&["why", "Absent", "--at", started])["run"]["id"], 1);
        assert_eq!(on.json(&["outbox"]), json!([]));
        assert_eq!(on.json(&["outbox", "--status", "sent"])[0]["recipient"], "ops@example.com");
        assert_eq!(on.out(&["outbox", "retry", "--all"]), "nothing was given up\n");
        assert!(on.out(&["notify", "test", "ops@example.com"]).contains("was taken"));
        assert_eq!(on.place.mails().len(), 2, "in `mail/` beside the file, or in the working directory");
        on.out(&["pause", "Absent"]);
        assert_eq!(on.json(&["list"])[0]["status"], "paused");
        on.out(&["resume", "Absent"]);
        assert_eq!(on.json(&["next", "Absent", "-n", "2"]).as_array().unwrap().len(), 2);
        assert!(on.out(&["route", "test", "Absent"]).contains("at once: ops@example.com"));
        let doctor = on.run(&["doctor"]);
        assert!(doctor.out.contains("can be read and written") && !doctor.out.contains("see the reason"), "{doctor}");
        assert!(doctor.out.contains("nobody serves this database: 1 active monitors are not run"), "{doctor}");
        assert!(!on.run(&["config"]).to_string().contains("bell-tower"));
    }
}

#[test]
fn examples_are_for_the_database_in_use_and_can_be_pasted() {
    let [_, postgres, mariadb] = On::each();
    for on in [&postgres, &mariadb] {
        for kind in on.json(&["kinds"]).as_array().unwrap() {
            for example in kind["examples"].as_array().unwrap() {
                block_on(execute(&on.url, example["insert"].as_str().unwrap()));
            }
        }
        for channel in on.json(&["channels"]).as_array().unwrap() {
            for example in channel["examples"].as_array().unwrap() {
                block_on(execute(&on.url, &format!("DELETE FROM channels; {}", example["insert"].as_str().unwrap())));
            }
        }
        let sent = block_on(rows(&on.url, "SELECT config FROM monitors WHERE name = 'Redis answers a ping'"));
        assert!(sent[0][0].as_ref().unwrap().contains(r"PING\r\n"), "{sent:?}");
        let listed = on.json(&["list"]);
        assert!(listed.as_array().unwrap().len() >= 8, "{listed}");
    }
    // Also where the URL as a whole is a secret.
    let variables = [("DB", "mysql://u:p@h/d"), ("WATCHBELL_DATABASE_URL", "${env:DB}")];
    let shown = Place::empty().run_with(&["kinds", "tcp"], &variables, "");
    assert!(shown.out.contains(r#""PING\\r\\n""#), "{shown}");
}

#[test]
fn a_node_says_where_it_serves_and_how_a_first_monitor_is_inserted() {
    let [_, postgres, mariadb] = On::each();
    for (on, client) in
        [(postgres, "psql 'postgres://watchbell@127.0.0.1:"), (mariadb, "mariadb --host=127.0.0.1 --port=")]
    {
        let mut node = Node::new().with("WATCHBELL_DATABASE_URL", &on.url);
        let said = node.start_and_hear("people_to_notify)");
        assert!(said.contains("@127.0.0.1:") && !said.contains(PASSWORD), "{said}");
        assert!(said.contains(client), "{said}");
        assert!(node.stop().success());
    }
}

#[test]
fn through_a_pooler_in_transaction_mode_a_monitor_alerts_and_recovers() {
    let server = block_on(Postgres::shared());
    let direct = On::new(block_on(server.fresh_database()));
    let pgbouncer = PgBouncer::start(server.address(), 3);
    let pooled = pgbouncer.instead_of(&direct.url);
    let mut node = Node::new().with("WATCHBELL_DATABASE_URL", &format!("{pooled}?pooler=transaction"));
    node.start();
    let target = node.path("target");
    let insert = format!(
        "INSERT INTO monitors (name, kind, schedule, config, people_to_notify, required_consecutive_oks) \
         VALUES ('Pooled', 'file', '{EVERY_SECOND}', '{{\"path\": \"{}\"}}', '[\"ops@example.com\"]', 2)",
        target.display()
    );
    block_on(execute(&direct.url, &insert));
    let told = |kind: &str| {
        let sql = format!("SELECT status FROM notifications WHERE type = '{kind}'");
        block_on(rows(&direct.url, &sql)) == [[Some("sent".to_owned())]]
    };
    wait_until("the alert", SOON, || told("alert"));
    std::fs::write(&target, "x").unwrap();
    // By the limit on repetition, the recovery may wait a minute; that it is owed is what counts here.
    wait_until("the recovery", SOON, || {
        !block_on(rows(&direct.url, "SELECT id FROM notifications WHERE type = 'recovery'")).is_empty()
    });
    let doctor = String::from_utf8(node.watchbell(["doctor"]).stdout).unwrap();
    assert!(doctor.contains("used through a pooler in transaction mode"), "{doctor}");
    // Without the option, doctor says what is missing.
    let without = node.watchbell(["doctor", "--database-url", &pooled]);
    let without = String::from_utf8(without.stdout).unwrap();
    assert!(without.contains("?pooler=transaction"), "{without}");
    wait_until("statements clash, and the hint names the option", SOON, || {
        let output = node.watchbell(["list", "--database-url", &pooled]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() || told.contains("add `?pooler=transaction` to the URL"), "{told}");
        !output.status.success()
    });
    assert!(node.stop().success());
    assert_eq!(node.log_lines_with("ERROR"), 0, "{}", node.log());
}
