//! `doctor`: what is wrong, and how to mend it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::{Ended, Place};

fn findings(ended: &Ended) -> Vec<Value> {
    serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended}"))
}

/// Whether there is a finding of this level about this whose text holds these words.
#[track_caller]
fn assert_found(ended: &Ended, level: &str, about: &str, words: &str) {
    let is_it = |finding: &Value| {
        finding["level"] == level && finding["about"] == about && finding["text"].as_str().unwrap().contains(words)
    };
    assert!(findings(ended).iter().any(is_it), "{level} {about} {words}: {ended}");
}

#[test]
fn a_new_installation_has_no_problem() {
    let place = Place::migrated();
    let ended = place.run(&["doctor", "--json"]);
    assert_eq!(ended.status, 0, "{ended}");
    for (level, about, words) in [
        ("ok", "configuration", "defaults count"),
        ("ok", "database", "can be read and written"),
        ("ok", "database", "synchronous=FULL"),
        ("warning", "node", "nobody serves this database"),
        ("warning", "mail", "mail is written as files"),
        ("warning", "admins", "nobody is told"),
        ("ok", "monitors", "0 active"),
        ("ok", "notifications", "none in trouble"),
    ] {
        assert_found(&ended, level, about, words);
    }
    for finding in findings(&ended) {
        assert_eq!(finding["hint"].is_null(), finding["level"] == "ok", "what is not ok has a hint: {finding}");
    }
    let text = place.run(&["doctor"]);
    assert!(text.out.lines().last().unwrap().starts_with("0 problems, 3 warnings"), "{text}");
}

#[test]
fn each_trouble_is_named_with_its_reason() {
    let place = Place::migrated();
    place.sql(
        "INSERT INTO monitors (name, kind, schedule, config, people_to_notify) VALUES
           ('typo', 'htpp', '@hourly', '{}', '[]'),
           ('silent', 'file', '@hourly', '{\"path\": \"/x\"}', NULL),
           ('quiet', 'file', '@hourly', '{\"path\": \"/x\"}', '[]'),
           ('secret', 'http', '@hourly',
            '{\"url\": \"https://localhost\", \"headers\": {\"X\": \"${env:WATCHBELL_SECRET_GONE}\"}}', '[]');
         INSERT INTO notifications (monitor_id, type, severity, recipient, subject, body, status, last_error)
         VALUES (1, 'alert', 'critical', 'a@example.com', 's', 'b', 'failed', 'no such user');
         UPDATE monitors SET last_result_message = 'x', last_run_at = '2026-01-01', next_run_at = '2026-01-01'
         WHERE name = 'quiet'",
    );
    std::fs::create_dir(place.path("plugins")).unwrap();
    std::fs::set_permissions(place.path("plugins"), PermissionsExt::from_mode(0o777)).unwrap();
    place.write(
        "watchbell.toml",
        "admins = [\"ops@example.com\"]\nmail.url = \"smtp://u:${env:NO_SUCH}@127.0.0.1\"\n\
         [connections]\nshop = \"sqlite:///no/such.db\"\n",
    );
    let ended = place.run(&["doctor", "--json"]);
    assert_eq!(ended.status, 1, "{ended}");
    for (level, about, words) in [
        ("ok", "admins", "ops@example.com"),
        ("problem", "plugin_dirs", "may be written by others"),
        ("problem", "mail", "`env:NO_SUCH` cannot be read"),
        ("problem", "node", "4 active monitors are not run"),
        ("problem", "monitors", "1 `typo` does not run, or not wholly, as written: kind: `htpp`"),
        ("warning", "monitors", "nobody is told of 2 `silent`"),
        ("problem", "monitors", "overdue: 3 `quiet`"),
        ("problem", "secrets", "of monitors 4: the secret `env:WATCHBELL_SECRET_GONE` cannot be read"),
        ("problem", "notifications", "1 were given up"),
        ("warning", "connections", "connection `shop`: "),
    ] {
        assert_found(&ended, level, about, words);
    }
}

#[test]
fn rows_that_tell_people_are_looked_at() {
    let place = Place::migrated();
    place.sql(
        "INSERT INTO channels (name, url, is_active) VALUES
           ('open', 'ntfy+https://ntfy.sh/ops#token=hunter2', 1), ('wrong', 'ntyf+https://ntfy.sh/hunter2', 1),
           ('off', 'mailto:a@example.com', 0);
         INSERT INTO routes (recipients) VALUES ('[\"no-such-channel\"]');
         INSERT INTO silences (selector, ends_at) VALUES ('team==', '2099-01-01');
         INSERT INTO monitors (name, kind, schedule, people_to_notify) VALUES
           ('a', 'file', '@hourly', '[]'), ('b', 'file', '@hourly', '[\"wrogn\"]');
         INSERT INTO dependencies (child_id, parent_id) VALUES (1, 2), (2, 1), (1, 99);
         INSERT INTO notifications (type, severity, recipient, subject, body, status, attempts, planned_at, created_at, last_error)
         VALUES ('notice', 'critical', 'open', 's', 'b', 'pending', 9, '2026-01-01', '2026-01-01', 'no answer within 120 s'),
           ('test', 'info', 'open', 's', 'b', 'failed', 1, '2026-01-01', '2026-01-01', 'x'),
           ('alert', 'info', 'open', 's', 'b', 'failed', 1, '2026-01-01', '2026-01-01', 'x')",
    );
    place.write("watchbell.toml", "admins = [\"opss\"]\n");
    let ended = place.run(&["doctor", "--json"]);
    assert_eq!(ended.status, 1, "{ended}");
    for (level, about, words) in [
        ("warning", "channels", "the url of `open` holds a secret that whoever reads the database sees: `token`"),
        ("problem", "channels", "`wrong` cannot be used as written: url: `ntyf` is not a type of channel"),
        ("warning", "channels", "`off` is switched off"),
        ("problem", "routes", "row 1 does not do all that it says: recipients: \"no-such-channel\""),
        ("problem", "silences", "row 1 does not do all that it says: selector: "),
        ("problem", "monitors", "2 `b` does not run, or not wholly, as written: "),
        ("warning", "dependencies", "monitors 1, 2 depend on each other in a circle"),
        ("warning", "dependencies", "rows name monitors that are gone: 99"),
        ("problem", "admins", "\"opss\" is neither an e-mail address nor the name of a channel"),
        ("problem", "deliveries", "`open` takes nothing: 1 wait, the oldest for "),
        ("problem", "notifications", "1 were given up"),
    ] {
        assert_found(&ended, level, about, words);
    }
    assert!(ended.out.contains("watchbell outbox retry --all"), "{ended}");
    assert!(!ended.out.contains("hunter2"), "{ended}");
}

#[test]
fn a_configuration_that_cannot_be_used_is_a_problem_each() {
    let place = Place::empty();
    place.write("watchbell.toml", "default_timezone = \"x\"\nlog.format = \"xml\"\n");
    let ended = place.run(&["doctor", "--json"]);
    assert_eq!(ended.status, 1);
    assert_eq!(findings(&ended).len(), 2);
    assert_found(&ended, "problem", "configuration", "`default_timezone` (watchbell.toml:1)");
    let missing = Place::empty().run(&["doctor", "--json"]);
    assert_found(&missing, "problem", "database", "there is no database `watchbell.db`");
    assert_eq!(missing.status, 1);
}

#[test]
fn the_mail_server_is_greeted_and_no_mail_is_sent() {
    let place = Place::migrated();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || serve_smtp_once(listener.accept().unwrap().0));
    place.write("watchbell.toml", &format!("mail.url = \"smtp://127.0.0.1:{port}\"\n"));
    let ended = place.run(&["doctor", "--json"]);
    assert_found(&ended, "ok", "mail", "it answers");
    let said = server.join().unwrap();
    assert!(said.iter().any(|line| line.starts_with("EHLO ")), "{said:?}");
    assert!(!said.iter().any(|line| line.starts_with("MAIL ")), "{said:?}");
    // Nobody listens there any more.
    assert_found(&place.run(&["doctor", "--json"]), "problem", "mail", "cannot be used");
}

/// Plays a mail server for one session, and returns what it was told.
fn serve_smtp_once(stream: TcpStream) -> Vec<String> {
    let mut answers = stream.try_clone().unwrap();
    answers.write_all(b"220 test\r\n").unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        let is_end = line.starts_with("QUIT");
        said.push(line);
        // The client may be gone without waiting for the last answer.
        let written = answers.write_all(if is_end { b"221 bye\r\n" } else { b"250 test\r\n" });
        if is_end || written.is_err() {
            break;
        }
    }
    said
}
