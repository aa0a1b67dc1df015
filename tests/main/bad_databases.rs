//! A database that cannot be used: each error says what is wrong and names the remedy, and no password is told.

use std::process::Output;

use crate::support::faketime::ShiftedClock;
use crate::support::mariadb::{MariaDb, MariaDbOptions, PASSWORD};
use crate::support::node::{Node, SOON, wait_until};
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::sql::{block_on, execute, rows, try_rows};

/// A new database on each of the shared servers.
fn databases() -> [String; 2] {
    block_on(async {
        [Postgres::shared().await.fresh_database().await, MariaDb::shared().await.fresh_database().await]
    })
}

/// The same server and database for another user.
fn of(url: &str, user: &str, password: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (_, server) = rest.split_once('@').unwrap();
    format!("{scheme}://{user}:{password}@{server}")
}

fn told(output: &Output) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8(text).unwrap()
}

/// `serve` ends at once, and says all of `parts`.
#[track_caller]
fn refused(url: &str, parts: &[&str]) {
    let node = Node::new().with("WATCHBELL_DATABASE_URL", url);
    let output = node.watchbell(["serve"]);
    let text = told(&output);
    assert_eq!(output.status.code(), Some(1), "{url}: {text}");
    assert!(text.starts_with("error: "), "one error and nothing else: {text}");
    for part in parts {
        assert!(text.contains(part), "{url}: `{part}` is not in: {text}");
    }
    for secret in [PASSWORD, "hunter2", "p@ss"] {
        assert!(!text.contains(secret), "{text}");
    }
}

/// As `serve`, but it waits; so a command that does not is asked.
#[track_caller]
fn unreachable(url: &str, parts: &[&str]) {
    let output = Node::new().with("WATCHBELL_DATABASE_URL", url).watchbell(["list"]);
    let text = told(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in parts {
        assert!(text.contains(part), "{url}: `{part}` is not in: {text}");
    }
}

fn migrated(url: &str) {
    let output = Node::new().watchbell(["migrate", "--database-url", url]);
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn a_wrong_password() {
    let options = PostgresOptions { password: Some("hunter2".to_owned()), ..PostgresOptions::default() };
    let server = Postgres::own(options);
    refused(
        &of(&server.url("postgres"), "watchbell", "p%40ss"),
        &["password authentication failed for user \"watchbell\"", "check user and password", "percent-encoded"],
    );
    let [_, mariadb] = databases();
    refused(&of(&mariadb, "watchbell", "p%40ss"), &["Access denied for user 'watchbell'", "check user and password"]);
    // Right, percent-encoded, and out of a file.
    block_on(execute(&server.url("postgres"), "CREATE ROLE tricky SUPERUSER LOGIN PASSWORD 'p@ss/w#rd%'"));
    let node = Node::new();
    std::fs::write(node.path("secret"), "p%40ss%2Fw%23rd%25\n").unwrap();
    let url = of(&server.url("postgres"), "tricky", &format!("${{file:{}}}", node.path("secret").display()));
    let node = node.with("WATCHBELL_DATABASE_URL", &url);
    for command in [&["migrate"][..], &["list"], &["config"], &["doctor"]] {
        let text = told(&node.watchbell(command));
        assert!(!text.contains("error") && !text.contains("ss/w") && !text.contains("%2Fw"), "{command:?}: {text}");
    }
}

#[test]
fn a_host_that_is_none_and_a_port_where_nobody_listens() {
    for scheme in ["postgres", "mysql"] {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        unreachable(
            &format!("{scheme}://u:hunter2@127.0.0.1:{port}/d"),
            &[&format!("127.0.0.1:{port}/d`"), "connection refused", "is the server running"],
        );
        unreachable(&format!("{scheme}://u@nowhere.invalid/d"), &["nowhere.invalid", "the host's name is unknown"]);
    }
    unreachable("postgres://u@h/d?host=/nonexistent", &["`postgres://u@/nonexistent/d`", "path of the socket"]);
}

#[test]
fn a_database_or_a_scheme_that_is_none() {
    let [postgres, mariadb] = databases();
    let elsewhere = |url: &str| format!("{}/absent", url.rsplit_once('/').unwrap().0);
    refused(&elsewhere(&postgres), &["database \"absent\" does not exist", "make it first"]);
    refused(&elsewhere(&mariadb), &["Unknown database 'absent'", "make it first"]);
    for scheme in ["postgres", "mysql"] {
        refused(&format!("{scheme}://u@127.0.0.1:1"), &["names no database", "user:password@host"]);
    }
    refused("postgres://127.0.0.1:1/d", &["names no user", "user:password@host"]);
    refused(&format!("{postgres}?options=-c%20search_path%3Dabsent"), &["no schema", "CREATE SCHEMA", "`search_path`"]);
}

#[test]
fn a_parameter_that_is_none() {
    for (start, misspelt) in
        [("postgres", "sslmod=verify-full"), ("mysql", "ssl-mod=REQUIRED"), ("mysql", "timezone=SYSTEM")]
    {
        let name = misspelt.split('=').next().unwrap();
        let said = format!("`{name}` is no parameter that may stand in its URL; these are: ");
        refused(&format!("{start}://u:hunter2@127.0.0.1:1/d?{misspelt}"), &[&said, "sslmode"]);
    }
    refused("postgres://u@127.0.0.1:1/d?sslmode=verify_full", &["\"verify_full\"", "it is one of disable,"]);
    refused("mysql://u@127.0.0.1:1/d?ssl-mode=verify-full", &["\"verify-full\"", "VERIFY_IDENTITY"]);
}

#[test]
fn a_server_of_the_other_kind() {
    let [postgres, mariadb] = databases();
    let (_, postgres) = postgres.split_once("://").unwrap();
    let (_, mariadb) = mariadb.split_once("://").unwrap();
    unreachable(
        &format!("postgres://{mariadb}"),
        &["does not speak as PostgreSQL does", "if it is MySQL or MariaDB, write `mysql://`"],
    );
    unreachable(
        &format!("mysql://{postgres}"),
        &["did not answer within 10 s", "if it is PostgreSQL, write `postgres://`"],
    );
}

#[test]
fn a_command_that_looks_makes_no_tables() {
    for url in databases() {
        unreachable(&url, &["it holds no tables of Watchbell", "`watchbell migrate` and `watchbell serve` make"]);
        let doctor = Node::new().with("WATCHBELL_DATABASE_URL", &url).watchbell(["doctor"]);
        assert!(told(&doctor).contains("problem  database: cannot use the database"), "{}", told(&doctor));
        assert!(block_on(try_rows(&url, "SELECT * FROM monitors")).is_err(), "a table was made");
    }
}

#[test]
fn no_step_is_applied_to_the_database_of_another_installation() {
    for url in databases() {
        migrated(&url);
        block_on(execute(
            &url,
            "UPDATE installation SET name = 'shop'; DELETE FROM _sqlx_migrations WHERE version = 3",
        ));
        let said = ["belongs to the installation `shop`", "an older version", "installation = \"shop\""];
        for command in ["migrate", "serve", "list"] {
            let output =
                Node::new().with("WATCHBELL_INSTALLATION", "warehouse").watchbell([command, "--database-url", &url]);
            let text = told(&output);
            assert_eq!(output.status.code(), Some(1), "{command}: {text}");
            assert!(said.iter().all(|part| text.contains(part)), "{command}: {text}");
        }
        let third = block_on(rows(&url, "SELECT version FROM _sqlx_migrations WHERE version = 3"));
        assert!(third.is_empty(), "the step was applied");
    }
}

#[test]
fn a_server_that_is_not_up_yet_is_waited_for() {
    let server = Postgres::own(PostgresOptions::default());
    let url = block_on(server.fresh_database());
    server.stop();
    let mut node = Node::new().with("WATCHBELL_DATABASE_URL", &url);
    let log = node.path("stderr");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("the node says that it waits", SOON, || {
                std::fs::read_to_string(&log).is_ok_and(|log| log.contains("trying again in 2 s"))
            });
            server.start();
        });
        node.start();
    });
    assert!(
        node.log().contains("connection refused") && node.log().contains("is the server running"),
        "{}",
        node.log()
    );
    assert!(node.stop().success());
}

#[test]
fn a_role_without_the_right_to_migrate_to_read_or_to_write() {
    let server = Postgres::own(PostgresOptions::default());
    let postgres = block_on(server.fresh_database());
    block_on(execute(&postgres, "CREATE ROLE other LOGIN"));
    let mariadb_server = MariaDb::own(MariaDbOptions::default());
    let mariadb = block_on(mariadb_server.fresh_database());
    let name = mariadb.rsplit('/').next().unwrap();
    block_on(execute(&mariadb, "CREATE USER other@'%' IDENTIFIED BY 'hunter2'"));
    block_on(execute(&mariadb, &format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO other@'%'")));
    let both = [(of(&postgres, "other", "hunter2"), &postgres), (of(&mariadb, "other", "hunter2"), &mariadb)];
    for (other, _) in &both {
        refused(
            other,
            &["steps are missing, and cannot be applied", "denied", "docs/databases.md", "watchbell migrate"],
        );
    }
    both.iter().for_each(|(_, owner)| migrated(owner));
    // Nothing but inserting monitors.
    block_on(execute(&postgres, "GRANT INSERT ON monitors TO other"));
    block_on(execute(
        &mariadb,
        &format!("REVOKE ALL ON {name}.* FROM other@'%'; GRANT INSERT ON {name}.monitors TO other@'%'"),
    ));
    for (other, _) in &both {
        refused(other, &["denied", "_sqlx_migrations", "this user lacks the right", "docs/databases.md"]);
    }
    // All but one right.
    block_on(execute(
        &postgres,
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO other; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO other; REVOKE DELETE ON nodes FROM other",
    ));
    refused(&both[0].0, &["lacks rights that a node needs: DELETE on nodes\n", "docs/databases.md"]);
    block_on(execute(&mariadb, &format!("GRANT SELECT, INSERT, UPDATE ON {name}.* TO other@'%'")));
    refused(&both[1].0, &["lacks rights that a node needs: ", "DELETE on notifications", "docs/databases.md"]);
}

#[test]
fn a_newer_version_and_an_edited_schema() {
    for url in databases() {
        migrated(&url);
        block_on(execute(&url, "UPDATE _sqlx_migrations SET version = 9999 WHERE version = 3"));
        refused(&url, &["written by a newer version of Watchbell (step 9999", "start that version"]);
        block_on(execute(&url, "UPDATE _sqlx_migrations SET version = 3 WHERE version = 9999"));
        block_on(execute(&url, "UPDATE _sqlx_migrations SET checksum = 'x' WHERE version = 2"));
        refused(&url, &["its step 2 is not the one that this version knows", "edited by hand"]);
    }
}

#[test]
fn tables_of_somebody_else() {
    for url in databases() {
        block_on(execute(&url, "CREATE TABLE monitors (id int)"));
        refused(&url, &["`monitors` that is none of Watchbell's", "that is empty"]);
        assert!(block_on(rows(&url, "SELECT * FROM monitors")).is_empty(), "nothing is made");
    }
}

#[test]
fn two_installations_on_one_schema() {
    for url in databases() {
        let node = |name: &str| Node::new().with("WATCHBELL_DATABASE_URL", &url).with("WATCHBELL_INSTALLATION", name);
        let mut shop = node("shop");
        shop.start();
        assert_eq!(block_on(rows(&url, "SELECT name FROM installation")), [[Some("shop".to_owned())]]);
        for other in [node("warehouse"), Node::new().with("WATCHBELL_DATABASE_URL", &url)] {
            for command in [&["serve"][..], &["migrate"], &["run", "1"], &["pause", "1"], &["outbox", "retry", "--all"]]
            {
                let output = other.watchbell(command);
                let text = told(&output);
                assert_eq!(output.status.code(), Some(1), "{text}");
                assert!(text.contains("belongs to the installation `shop`, and this node is configured for"), "{text}");
                assert!(text.contains("installation = \"shop\""), "{text}");
            }
            let output = other.watchbell(["list"]);
            assert!(
                output.status.success() && told(&output).contains("belongs to the installation `shop`"),
                "a warning"
            );
            assert!(told(&other.watchbell(["doctor"])).contains("no node starts"));
        }
        // An installation that has monitors keeps its name.
        assert!(shop.stop().success());
        let add = ["add", "--name", "n", "--kind", "file", "--schedule", "@daily", "--config", r#"{"path": "/"}"#];
        assert!(node("shop").watchbell(add).status.success());
        block_on(execute(&url, "UPDATE installation SET name = 'watchbell'"));
        assert!(!node("warehouse").watchbell(["migrate"]).status.success());
        assert!(
            told(&node("warehouse").watchbell(["doctor"])).contains("installation `watchbell`, and the configuration")
        );
        assert!(told(&node("warehouse").watchbell(["list"])).contains("belongs to the installation `watchbell`"));
    }
}

#[test]
fn tls_with_an_authority_of_ones_own() {
    let postgres = Postgres::own(PostgresOptions { has_tls: true, ..PostgresOptions::default() });
    let mariadb = MariaDb::own(MariaDbOptions { has_tls: true, ..MariaDbOptions::default() });
    for (url, ca, off) in [
        (block_on(postgres.fresh_database()), "sslrootcert", "sslmode=disable"),
        (block_on(mariadb.fresh_database()), "ssl-ca", "ssl-mode=DISABLED"),
    ] {
        let mut node = Node::new().with("WATCHBELL_DATABASE_URL", &url);
        node.start();
        assert!(node.stop().success());
        let (plain, parameters) = url.split_once('?').unwrap();
        let mode = parameters.split('&').next().unwrap();
        refused(&format!("{plain}?{off}"), &["TLS"]);
        refused(&format!("{plain}?{mode}"), &["TLS: ", "certificate", ca]);
        let missing = format!("{plain}?{mode}&{ca}=/nonexistent.pem");
        let output = Node::new().with("WATCHBELL_DATABASE_URL", &missing).watchbell(["list"]);
        assert!(!output.status.success() && told(&output).contains("No such file"), "{}", told(&output));
        // Another authority.
        let other = Node::new();
        let key = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
        std::fs::write(other.path("other.pem"), key.cert.pem()).unwrap();
        refused(&format!("{plain}?{mode}&{ca}={}", other.path("other.pem").display()), &["TLS: ", "certificate"]);
    }
}

#[test]
fn doctor_names_a_server_whose_clock_is_wrong() {
    let clock = ShiftedClock::new();
    let options = MariaDbOptions { environment: clock.env(), ..MariaDbOptions::default() };
    let server = MariaDb::own(options);
    let url = block_on(server.fresh_database());
    migrated(&url);
    let doctor = || told(&Node::new().with("WATCHBELL_DATABASE_URL", &url).watchbell(["doctor"]));
    assert!(doctor().contains("its clock agrees with this machine's"));
    clock.shift(chrono::TimeDelta::seconds(-30));
    let text = doctor();
    assert!(text.contains("problem  server: its clock is") && text.contains("s behind this machine's"), "{text}");
    assert!(text.contains("`node.max_clock_skew_seconds` is 2: no node starts") && text.contains("NTP"), "{text}");
    // As far as the configuration lets a node go, and no further.
    let mut patient =
        Node::new().with("WATCHBELL_DATABASE_URL", &url).with("WATCHBELL_NODE__MAX_CLOCK_SKEW_SECONDS", "60");
    patient.start();
    let text = told(&patient.watchbell(["doctor"]));
    assert!(text.contains("agrees with this machine's to within 60 s"), "{text}");
    assert!(text.contains("ok       node: 1 serving"), "its lease is judged by the server's clock: {text}");
    assert!(patient.stop().success());
}

#[test]
fn doctor_names_what_is_set_up_badly() {
    let settings = vec![("autovacuum", "off".to_owned()), ("synchronous_commit", "off".to_owned())];
    let postgres = Postgres::own(PostgresOptions { settings, ..PostgresOptions::default() });
    let settings = vec![("sql-mode", String::new()), ("max-allowed-packet", "1048576".to_owned())];
    let mariadb = MariaDb::own(MariaDbOptions { settings, has_binary_log: true, ..MariaDbOptions::default() });
    let found = |url: &str| {
        migrated(url);
        told(&Node::new().with("WATCHBELL_DATABASE_URL", url).watchbell(["doctor"]))
    };
    let text = found(&block_on(postgres.fresh_database()));
    for part in
        ["`autovacuum` is off", "`synchronous_commit` is off", "`fsync` is off", "ALTER SYSTEM SET autovacuum = on"]
    {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    let url = block_on(mariadb.fresh_database());
    let text = found(&url);
    for part in [
        "`log_bin_trust_function_creators` is 0",
        "`innodb_flush_log_at_trx_commit` is 0",
        "`sync_binlog` is 0",
        "`sql_mode` is not strict",
        "`max_allowed_packet` is 1024 KiB",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    // The triggers' account is gone.
    block_on(execute(
        &url,
        "CREATE USER second@'%' IDENTIFIED BY 'x'; GRANT ALL ON *.* TO second@'%' WITH GRANT OPTION",
    ));
    let second = of(&url, "second", "x");
    block_on(execute(&second, "DROP USER watchbell@'%'"));
    let text = told(&Node::new().with("WATCHBELL_DATABASE_URL", &second).watchbell(["doctor"]));
    assert!(text.contains("run with the rights of `watchbell@%`, and there is no such account"), "{text}");
    // To a user with fewer rights, MariaDB says it otherwise.
    let name = url.rsplit('/').next().unwrap();
    block_on(execute(
        &second,
        &format!(
            "CREATE USER third@'%' IDENTIFIED BY 'x'; GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO third@'%'"
        ),
    ));
    let third = of(&url, "third", "x");
    unreachable(&third, &["Access denied", "the account that made the tables was dropped (create it again"]);
    let insert = "INSERT INTO monitors (name, kind, schedule) VALUES ('n', 'file', '@daily')";
    assert!(block_on(try_rows(&second, insert)).is_err(), "it is as doctor says");
}
