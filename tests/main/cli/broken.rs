//! Installations that cannot be used: each error says what is wrong and what helps.

use super::Place;

#[test]
fn a_missing_database_is_made_by_those_commands_alone_that_are_meant_to() {
    let place = Place::empty();
    let expected = "\
error: there is no database `watchbell.db`
hint: `watchbell serve` and `watchbell migrate` make one
hint: the database of another directory is named by `--database-url` or `--config`
[1]";
    for arguments in [&["list"][..], &["show", "1"], &["run", "1"], &["pause", "1"], &["history", "1"], &["next", "1"]]
    {
        assert_eq!(place.run(arguments).to_string(), expected, "{arguments:?}");
        assert!(!place.path("watchbell.db").exists(), "{arguments:?}");
    }
    place.add_file_monitor("x", &[]);
    assert!(place.path("watchbell.db").exists());
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let place = Place::empty();
    let ended = place.run(&["--database-url", "sqlite://nowhere/x.db", "migrate"]);
    let expected = "\
error: cannot open the database `nowhere/x.db`: unable to open database file; its folder must exist and be writable by \
this user
[1]";
    assert_eq!(ended.to_string(), expected);
    assert_eq!(place.run(&["--database-url", "sqlite://nowhere/x.db", "list"]).to_string(), expected);
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let place = Place::empty();
    place.write("watchbell.db", "dear diary, this is no database at all\n");
    let expected = "error: cannot open the database `watchbell.db`: file is not a database; name another file, or move this one \
         away\n[1]";
    assert_eq!(place.run(&["migrate"]).to_string(), expected);
    assert_eq!(place.run(&["list"]).to_string(), expected);
    let text = std::fs::read_to_string(place.path("watchbell.db")).unwrap();
    assert_eq!(text, "dear diary, this is no database at all\n");
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let place = Place::migrated();
    place.sql(
        "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
         VALUES (9999, 'from the future', '2030-01-01', 1, x'00', 0)",
    );
    let expected = "\
error: cannot prepare the tables of `watchbell.db`: it was written by a newer version of Watchbell (step 9999 is unknown \
here); start that version
[1]";
    assert_eq!(place.run(&["list"]).to_string(), expected);
    assert_eq!(place.run(&["migrate"]).to_string(), expected);
}

#[test]
fn no_step_is_applied_to_the_file_of_another_installation_or_to_an_empty_one_by_a_look() {
    let place = Place::migrated();
    place.sql("UPDATE installation SET name = 'shop'; DELETE FROM _sqlx_migrations WHERE version = 3");
    for command in ["migrate", "list"] {
        let ended = place.run(&[command]);
        let said = "belongs to the installation `shop`, and this node is configured for `watchbell`; its tables are of an older";
        assert!(ended.status == 1 && ended.err.contains(said), "{ended}");
        assert!(ended.err.contains("set `installation = \"shop\"`"), "{ended}");
    }
    let place = Place::empty();
    place.write("watchbell.db", "");
    let ended = place.run(&["list"]);
    assert!(ended.status == 1 && ended.err.contains("it holds no tables of Watchbell; is that the right"), "{ended}");
    assert_eq!(place.run(&["migrate"]).status, 0);
    place.out(&["list"]);
}

#[test]
fn a_url_of_no_database_is_a_fault_and_its_password_is_not_shown() {
    let place = Place::empty();
    for url in ["mongodb://u:hunter2@h/db", "postgress://u:hunter2@h/db"] {
        let ended = place.run(&["list", "--database-url", url]);
        assert!(ended.status == 1 && ended.err.contains("`database_url` (--database-url): "), "{ended}");
        assert!(ended.err.contains("postgres://user@host/database") && !ended.err.contains("hunter2"), "{ended}");
    }
    // A secret is looked at when it is read.
    let variables = [("DB", "mongodb://u:hunter2@h/db"), ("WATCHBELL_DATABASE_URL", "${env:DB}")];
    let ended = place.run_with(&["list"], &variables, "");
    assert!(ended.err.starts_with("error: database_url: `${env:DB}` is no URL of a database\nhint: write "), "{ended}");
    assert!(!ended.err.contains("hunter2"), "{ended}");
}

#[test]
fn a_secret_that_cannot_be_read_is_named() {
    let place = Place::empty();
    place.write("watchbell.toml", "database_url = \"sqlite://${env:NOT_THERE}.db\"\n");
    let ended = place.run(&["list"]);
    assert!(ended.status == 1, "{ended}");
    assert!(ended.err.starts_with("error: database_url: the secret `env:NOT_THERE` cannot be read: "), "{ended}");
}

#[test]
fn all_faults_of_the_configuration_are_told_at_once() {
    let place = Place::migrated();
    place.write("watchbell.toml", "default_timezone = \"Europe/Berln\"\nmail_url = \"x\"\n");
    let expected = "\
error: the configuration has 2 faults:
- `default_timezone` (watchbell.toml:1): there is no time zone `Europe/Berln`
  hint: did you mean `Europe/Berlin`?
- `mail_url` (watchbell.toml:2): there is no such key
  hint: did you mean `mail.url`?
[1]";
    for command in ["list", "migrate", "config", "kinds"] {
        assert_eq!(place.run(&[command]).to_string(), expected, "{command}");
    }
}

#[test]
fn a_mail_server_that_is_away_holds_up_no_run() {
    let place = Place::migrated();
    place.add_file_monitor("absent", &["--notify", "ops@example.com"]);
    // A port on which nobody listens any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    place.write("watchbell.toml", &format!("mail.url = \"smtp://127.0.0.1:{port}\"\n"));
    let run = place.run(&["run", "absent"]);
    assert!(
        run.status == 0 && run.out.contains("alert to ops@example.com (pending: the mail server 127.0.0.1:"),
        "{run}"
    );
}
