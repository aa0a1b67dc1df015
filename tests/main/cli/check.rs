//! `check`: one child, no database.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Place, command};

#[test]
fn the_exit_status_is_the_verdict() {
    let place = Place::empty();
    place.write("there", "x");
    let config = |name: &str| json!({"path": place.path(name)}).to_string();
    let ok = place.run(&["check", "file", "--config", &config("there")]);
    assert!(ok.status == 0 && ok.out.starts_with("ok in ") && ok.err.is_empty(), "{ok}");
    let failed = place.run(&["check", "file", "--config", &config("absent")]);
    assert!(failed.status == 2 && failed.out.starts_with("failed in ") && failed.err.is_empty(), "{failed}");
    let failed = place.run(&["check", "file", "--json", "--config", &config("absent")]);
    let told: Value = serde_json::from_str(&failed.out).unwrap();
    assert_eq!((failed.status, &told["is_ok"], &told["kind"]), (2, &json!(false), &json!("file")));
    assert!(told["message"].as_str().unwrap().contains("absent"), "{told}");
    assert!(!place.path("watchbell.db").exists());
}

#[test]
fn the_config_may_come_from_a_file_or_from_standard_input() {
    let place = Place::empty();
    place.write("there", "x");
    let config = json!({"path": place.path("there")}).to_string();
    place.write("config.json", &config);
    assert_eq!(place.run(&["check", "file", "--config", "@config.json"]).status, 0);
    assert_eq!(place.run_with(&["check", "file", "--config", "-"], &[], &config).status, 0);
    let missing = place.run(&["check", "file", "--config", "@nothing.json"]);
    let expected = "error: cannot read the config from `nothing.json`: No such file or directory (os error 2)\n[1]";
    assert_eq!(missing.to_string(), expected);
    let long = place.run_with(&["check", "file", "--config", "-"], &[], &" ".repeat(70_000));
    assert!(long.status == 1 && long.err.contains("longer than 65536 bytes"), "{long}");
}

#[test]
fn a_config_that_the_kind_refuses_is_a_failed_check_that_names_every_fault() {
    let place = Place::empty();
    let refused = place.run(&["check", "tcp", "--config", r#"{"hots": "x", "port": 70000}"#]);
    assert_eq!(refused.status, 2);
    for fault in ["config.hots: is not a parameter of this kind (hint: did you mean `host`?)", "config.port: "] {
        assert!(refused.out.contains(fault), "{fault}: {refused}");
    }
}

#[test]
fn wrong_usage_is_told_with_a_way_out() {
    let place = Place::empty();
    let expected = "error: there is no kind `htpp`\nhint: did you mean `http`?\n[2]";
    assert_eq!(place.run(&["check", "htpp"]).to_string(), expected);
    let expected = "\
error: --config: is no JSON: key must be a string at line 1 column 2
hint: quote the whole for the shell, for example --config '{\"url\": \"https://example.com\"}'
[2]";
    assert_eq!(place.run(&["check", "http", "--config", "{x"]).to_string(), expected);
    let expected = "error: --config: expected a JSON object\nhint: for example {\"url\": \"https://example.com\"}\n[2]";
    assert_eq!(place.run(&["check", "http", "--config", "[]"]).to_string(), expected);
}

#[test]
fn a_check_that_takes_too_long_is_stopped() {
    // It takes the connection and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = json!({"host": "127.0.0.1", "port": silent.local_addr().unwrap().port(), "expect": "x"}).to_string();
    let began = Instant::now();
    let ended = Place::empty().run(&["check", "tcp", "--timeout", "1", "--config", &config]);
    assert!(ended.status == 2 && ended.out.starts_with("failed in "), "{ended}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn the_configuration_file_is_named_before_the_command() {
    let place = Place::empty();
    place.write("w.toml", "default_timezone = \"x\"\n");
    let ended = place.run(&["--config", "w.toml", "check", "file", "--config", "{}"]);
    assert!(ended.status == 1 && ended.err.contains("`default_timezone` (w.toml:1)"), "{ended}");
}

#[test]
fn an_interrupted_check_leaves_no_program_behind() {
    let place = Place::empty();
    let pid_file = place.path("pid");
    std::fs::create_dir(place.path("plugins")).unwrap();
    place.write("plugins/check_long", &format!("#!/bin/sh\necho $$ > {}\nexec sleep 600\n", pid_file.display()));
    std::fs::set_permissions(place.path("plugins/check_long"), PermissionsExt::from_mode(0o755)).unwrap();
    let arguments = ["check", "command", "--timeout", "500", "--config", r#"{"program": "check_long"}"#];
    let child = command(place.dir.path(), &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the program starts", || std::fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n')));
    let program = std::fs::read_to_string(&pid_file).unwrap();
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "error: the check was interrupted; nothing was written\n");
    assert_eq!(output.status.code(), Some(1));
    let process = format!("/proc/{}", program.trim());
    wait_for("the program ends", || !Path::new(&process).exists());
}

#[track_caller]
fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
