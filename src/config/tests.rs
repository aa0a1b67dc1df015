//! The layers, their precedence, the faults and what is shown, on folders and environments made for the test.

use std::path::Path;
use std::time::Duration;

use super::{Configuration, ConfigurationFaults, Flags, LogFormat, Source, keys};

struct Installation {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
    flags: Flags,
}

impl Installation {
    fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), environment: Vec::new(), flags: Flags::default() }
    }

    fn with_file(text: &str) -> Self {
        let installation = Self::empty();
        std::fs::write(installation.folder.path().join("watchbell.toml"), text).unwrap();
        installation
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn flags(mut self, flags: Flags) -> Self {
        self.flags = flags;
        self
    }

    fn load(&self) -> Result<Configuration, ConfigurationFaults> {
        Configuration::load(&self.flags, self.environment.clone(), self.folder.path())
    }

    /// The faults as a person reads them.
    fn faults(&self) -> String {
        self.load().unwrap_err().to_string()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

fn shown(configuration: &Configuration, key: &str) -> (String, Source) {
    let value = configuration.effective().iter().find(|value| value.key == key).unwrap();
    (value.shown(), value.source.clone())
}

fn flag(key: &'static str, value: &str) -> Flags {
    Flags::default().set(key, Some(value.to_owned()))
}

#[test]
fn defaults_hold_where_nothing_is_configured() {
    let installation = Installation::empty();
    let configuration = installation.load().unwrap();
    assert_eq!(configuration.database_url.masked(), "sqlite://watchbell.db");
    assert_eq!(configuration.listen.to_string(), "127.0.0.1:8787");
    assert_eq!(configuration.default_timezone, chrono_tz::UTC);
    assert_eq!(configuration.plugin_dirs, [installation.path("plugins")]);
    assert_eq!(configuration.checks.max_concurrent, 256);
    assert_eq!(configuration.checks.shutdown_grace, Duration::from_secs(10));
    assert_eq!(configuration.history.keep, crate::domain::HistoryPolicy::default());
    assert_eq!(configuration.mail.max_connections, 4);
    assert!(configuration.mail.from.starts_with("watchbell@"));
    assert!(configuration.mail.url.is_none() && configuration.admins.is_empty() && configuration.file.is_none());
    assert!(configuration.effective().iter().all(|value| value.source == Source::Default));
}

#[test]
fn each_layer_wins_over_those_below() {
    let of = |configuration: &Configuration| shown(configuration, "default_timezone");
    let file = Installation::with_file("# a comment\ndefault_timezone = \"Europe/Berlin\"\n");
    let source = Source::File { path: "watchbell.toml".into(), line: 2 };
    assert_eq!(of(&file.load().unwrap()), ("Europe/Berlin".to_owned(), source));

    let variable = file.variable("WATCHBELL_DEFAULT_TIMEZONE", "Asia/Tokyo");
    let source = Source::Variable("WATCHBELL_DEFAULT_TIMEZONE".to_owned());
    assert_eq!(of(&variable.load().unwrap()), ("Asia/Tokyo".to_owned(), source));

    let flags = variable.flags(flag("default_timezone", "America/Lima"));
    let source = Source::Flag("--default-timezone".to_owned());
    assert_eq!(of(&flags.load().unwrap()), ("America/Lima".to_owned(), source));
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let installation = Installation::with_file("[mail]\nurl = \"smtp://mx\"").variable("WATCHBELL_MAIL__URL", "");
    assert_eq!(installation.load().unwrap().mail.url.unwrap().masked(), "smtp://mx");
}

#[test]
fn variables_are_read_by_the_type_of_their_key() {
    let configuration = Installation::empty()
        .variable("WATCHBELL_DATABASE_URL", "postgres://db/watchbell")
        .variable("WATCHBELL_ADMINS", r#"["ops@example.com", "on_call"]"#)
        .variable("WATCHBELL_MAIL__URL", "\"smtps://mx.example.com\"")
        .variable("WATCHBELL_CHECKS__MAX_CONCURRENT", " 12 ")
        .variable("WATCHBELL_LOG__FORMAT", "json")
        .variable("WATCHBELL_CONNECTIONS__SHOP", "mysql://db/shop")
        .variable("WATCHBELL_CONNECTIONS__SHOP__ALLOW_OWN_DATABASE", "true")
        .load()
        .unwrap();
    assert_eq!(configuration.database_url.masked(), "postgres://db/watchbell");
    assert_eq!(configuration.admins, ["ops@example.com", "on_call"]);
    assert_eq!(configuration.mail.url.unwrap().masked(), "smtps://mx.example.com");
    assert_eq!(configuration.checks.max_concurrent, 12);
    assert_eq!(configuration.log.format, LogFormat::Json);
    assert_eq!(configuration.connections["shop"].url.masked(), "mysql://db/shop");
    assert!(configuration.connections["shop"].allow_own_database);
}

#[test]
fn connections_have_a_short_and_a_long_form_and_keep_their_names() {
    let configuration = Installation::with_file(
        "[connections]\nERP = \"postgres://db/erp\"\n[connections.own]\nurl = \"sqlite://watchbell.db\"\nallow_own_database = true\n",
    )
    .variable("WATCHBELL_CONNECTIONS__ERP", "postgres://standby/erp")
    .load()
    .unwrap();
    assert_eq!(configuration.connections.keys().collect::<Vec<_>>(), ["ERP", "own"]);
    assert_eq!(configuration.connections["ERP"].url.masked(), "postgres://standby/erp");
    assert!(configuration.connections["own"].allow_own_database);
    assert!(!configuration.connections["ERP"].allow_own_database);
}

#[test]
fn paths_start_where_they_were_written() {
    let installation = Installation::empty();
    std::fs::create_dir(installation.path("etc")).unwrap();
    std::fs::write(installation.path("etc/w.toml"), "plugin_dirs = [\"p\", \"/usr/lib/nagios/plugins\"]").unwrap();
    let named = Flags::default().config(Some("etc/w.toml".into()));

    let installation = installation.flags(named.clone());
    let in_file = installation.load().unwrap();
    assert_eq!(in_file.plugin_dirs, [installation.path("etc/p"), "/usr/lib/nagios/plugins".into()]);
    assert_eq!(in_file.file, Some(installation.path("etc/w.toml")));

    let installation = installation.flags(named.set("plugin_dirs", Some("[\"q\"]".to_owned())));
    assert_eq!(installation.load().unwrap().plugin_dirs, [installation.path("q")]);
}

#[test]
fn only_a_file_that_was_named_must_exist() {
    let flags = Flags::default().config(Some("missing.toml".into()));
    let faults = Installation::empty().flags(flags).faults();
    assert!(faults.contains("`missing.toml`: there is no such file"), "{faults}");
    assert!(Installation::empty().load().is_ok());
}

#[test]
fn all_faults_are_reported_at_once() {
    let file = "databse_url = \"sqlite://x.db\"\ndefault_timezone = \"Europe/Berln\"\nadmins = \"ops@example.com\"\n\
                [mail]\nurl = \"mail.example.com\"\nmax_connections = \"four\"\nadmins = []\n[checks]\nmax_concurrent = 0\n\
                [secrets]\nallow = [\"WB_*\"]\n[connections.shop]\nallow_own_database = true\n[connections]\nbad.x = 1\n[webb]\nport = 1\n\
                [mial]\n[connections.none]\n";
    let faults = Installation::with_file(file)
        .variable("WATCHBELL_MAIL_URL", "smtp://mx")
        .variable("WATCHBELL_HISTORY__KEEP_DAYS", "a month")
        .flags(flag("listen", "8787"))
        .faults();
    for line in [
        "- `databse_url` (watchbell.toml:1): there is no such key\n  hint: did you mean `database_url`?",
        "- `default_timezone` (watchbell.toml:2): there is no time zone `Europe/Berln`\n  hint: did you mean `Europe/Berlin`?",
        "- `admins` (watchbell.toml:3): expected a list of texts, found the text `ops@example.com`",
        "- `mail.url` (watchbell.toml:5): it does not begin with `smtp://` or `smtps://`",
        "- `mail.max_connections` (watchbell.toml:6): expected a whole number from 1 to 100, found the text `four`",
        "- `mail.admins` (watchbell.toml:7): there is no such key\n  hint: `admins` belongs to the top of the file",
        "- `checks.max_concurrent` (watchbell.toml:9): expected a whole number from 1 to 4096, found the number 0",
        "- `secrets.allow` (watchbell.toml:11): `WB_*` does not begin with `env:`",
        "- `connections.shop.url` (watchbell.toml:13): the connection has no URL",
        "- `connections.bad.x` (watchbell.toml:15): there is no such key",
        "- `webb` (watchbell.toml:16): there is no such table of keys",
        "- `mial` (watchbell.toml:18): there is no such table of keys\n  hint: did you mean `[mail]`?",
        "- `connections.none` (watchbell.toml:19): the connection has no URL",
        "- `mail_url` (WATCHBELL_MAIL_URL): there is no such key\n  hint: did you mean `WATCHBELL_MAIL__URL`?",
        "- `history.keep_days` (WATCHBELL_HISTORY__KEEP_DAYS): expected a whole number from 1 to 36500, found the text `a month`",
        "- `listen` (--listen): expected an address and a port, found `8787`",
    ] {
        assert!(faults.contains(line), "missing: {line}\nin: {faults}");
    }
    let lines: Vec<usize> =
        faults.split("watchbell.toml:").skip(1).filter_map(|rest| rest.split(')').next()?.parse().ok()).collect();
    assert!(lines.is_sorted() && lines.len() == 13, "{lines:?}");
    assert!(faults.starts_with("the configuration has 16 faults:\n"), "{faults}");
}

#[test]
fn a_file_that_is_not_toml_names_its_lines_and_no_text() {
    let faults = Installation::with_file("listen = \"127.0.0.1:1\"\n[mail]\nurl = \"smtp://u:hunter2@mx\nfrom = x\n")
        .variable("WATCHBELL_LOG__LEVEL", "loud=loud")
        .faults();
    assert!(faults.contains("watchbell.toml:3: this is not TOML"), "{faults}");
    assert!(faults.contains("`log.level` (WATCHBELL_LOG__LEVEL)"), "{faults}");
    assert!(!faults.contains("hunter2"), "{faults}");
}

#[test]
fn variables_of_others_are_left_alone() {
    Installation::empty()
        .variable("WATCHBELL_SECRET_TOKEN", "x")
        .variable("WATCHBELL_SERVICE_HOST", "10.0.0.1")
        .variable("WATCHBELL_PORT", "tcp://10.0.0.1:8787")
        .variable("WATCHBELL_PORT_8787_TCP", "tcp://10.0.0.1:8787")
        .variable("MAIL__URL", "nonsense")
        .load()
        .unwrap();
}

#[test]
fn urls_must_have_a_shape_that_can_work() {
    for (key, url) in [
        ("mail.url", "http://mx"),
        ("mail.url", "smtp://mx:hunter2"),
        ("mail.url", "smtp://mx?tls=requird"),
        ("mail.url", "smtps://mx?tls=opportunistic"),
        ("mail.url", "smtp://mx?user=x"),
        ("mail.url", "smtp://u:${env:P@mx"),
        ("database_url", "oracle://db/x"),
        ("database_url", "sqlite://"),
        ("database_url", "mysql:///x"),
        ("database_url", "watchbell.db"),
        ("public_url", "watchbell.example.com"),
        ("public_url", "https://u:hunter2@example.com"),
        ("mail.from", "nobody"),
        ("mail.from", "${env:FROM}"),
        ("mail.from", "\u{FFFD}@example.com"),
        ("mail.url", "smtp://u:\u{FFFD}@mx"),
        ("default_timezone", "CEST+2"),
        ("listen", "postgres://u:hunter2@a-host-with-a-very-long-name-so-that-it-is-cut.example.com/x"),
        ("log.level", "inof"),
        ("log.level", "info,verbose"),
        ("log.format", "xml"),
        ("admins", "[\"ops@\"]"),
        ("admins", "[\"smtp://u:hunter2@mx\"]"),
        ("command.allow", "[\"/bin/sh\"]"),
        ("checks.max_concurrent", "4097"),
    ] {
        let faults = Installation::empty().flags(flag(key, url)).faults();
        assert!(faults.contains(&format!("`{key}` (--")), "{key} {url}: {faults}");
        assert!(!faults.contains("hunter2"), "{faults}");
    }
    for (key, url) in [
        ("mail.url", "smtp://u:${pass:mail/ops}@mx:${env:PORT}?tls=required"),
        ("mail.url", "${env:SMTP_URL}"),
        ("database_url", "postgres:///x?host=/run/postgresql"),
        ("database_url", "sqlite:watchbell.db"),
        ("public_url", "https://example.com/watchbell/"),
        ("mail.from", "Watchbell <watchbell@example.com>"),
        ("listen", "localhost:0"),
        ("log.level", "WARN,watchbell=debug"),
        ("checks.max_concurrent", "4096"),
        ("listen", "[::1]:8787"),
    ] {
        let loaded = Installation::empty().flags(flag(key, url)).load();
        assert!(loaded.is_ok(), "{key} {url}: {}", loaded.unwrap_err());
    }
}

#[tokio::test]
async fn secrets_are_shown_masked_or_as_references_and_revealed_to_the_wire() {
    const PLANTED: &str = "hunter2";
    let configuration = Installation::with_file(
        "[mail]\nurl = \"smtp://u:${env:SMTP_PASSWORD}@mx\"\n[connections]\nshop = \"postgres://u:hunter2@db/shop?sslpassword=hunter2\"\n",
    )
    .variable("WATCHBELL_DATABASE_URL", "postgres://u:hunter2@db/watchbell")
    .variable("SMTP_PASSWORD", PLANTED)
    .load()
    .unwrap();
    let listed = serde_json::to_string(configuration.effective()).unwrap();
    for seen in [
        listed.clone(),
        format!("{configuration:?}"),
        format!("{:?}", flag("database_url", PLANTED)),
        configuration.database_url.to_string(),
    ] {
        assert!(!seen.contains(PLANTED), "{seen}");
    }
    assert!(listed.contains(r#""smtp://u:${env:SMTP_PASSWORD}@mx","source":"watchbell.toml:2""#), "{listed}");
    assert!(listed.contains("postgres://u:***@db/shop?sslpassword=***"), "{listed}");

    let revealed = configuration.mail.url.clone().unwrap().reveal().await.unwrap();
    assert_eq!(revealed.as_str(), "smtp://u:hunter2@mx");
    let settings = configuration.settings().await.unwrap();
    assert_eq!(settings.own_database_url.as_deref(), Some("postgres://u:hunter2@db/watchbell"));
    assert_eq!(
        settings.connections["shop"].url.reveal().await.unwrap().as_str(),
        "postgres://u:hunter2@db/shop?sslpassword=hunter2"
    );
    assert_eq!(settings.plugin_dirs, configuration.plugin_dirs);
}

#[test]
fn effective_lists_every_key_once_in_order() {
    let configuration =
        Installation::with_file("[connections]\na = \"sqlite://a.db\"\n[node.labels]\nzone = \"eu\"").load().unwrap();
    let general =
        |key: &str| key.replace("connections.a.", "connections.<name>.").replace("labels.zone", "labels.<key>");
    let mut listed = configuration.effective().iter().map(|value| general(&value.key));
    for key in keys::KEYS {
        assert_eq!(listed.next().as_deref(), Some(key.name));
    }
    assert_eq!(listed.next(), None);
}

/// `UPDATE=1 cargo test` writes the table anew.
#[test]
fn the_documented_table_is_the_list_of_keys() {
    const BEGIN: &str = "<!-- keys: written by `UPDATE=1 cargo test` -->\n";
    const END: &str = "<!-- end of keys -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{BEGIN}{}{END}{after}", keys::table());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &expected).unwrap();
    } else {
        assert!(page == expected, "docs/configuration.md is behind the list of keys; run `UPDATE=1 cargo test`");
    }
}

#[test]
fn the_example_file_is_a_configuration_with_every_key_commented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/watchbell.example.toml");
    let example = std::fs::read_to_string(path).unwrap();
    Installation::with_file(&example).load().unwrap();
    // With every setting switched on as it is written there.
    let all: Vec<&str> = example.lines().map(|line| line.strip_prefix("#! ").unwrap_or(line)).collect();
    let configuration = Installation::with_file(&all.join("\n")).load().unwrap();
    for key in keys::KEYS {
        let named = key.name.replace("<name>", "own").replace("<key>", "zone");
        let is_set =
            configuration.effective().iter().any(|value| value.key == named && value.source != Source::Default);
        assert!(is_set, "`{}` is not in the example", key.name);
    }
}

#[test]
fn a_node_has_a_name_and_labels_that_selectors_can_name() {
    let configuration = Installation::with_file(
        "installation = \"shop\"\n[node]\nname = \"alpha\"\nlease_seconds = 30\nlabels = { zone = \"eu\", tier = \"dmz\" }",
    )
    .load()
    .unwrap();
    let node = &configuration.node;
    assert_eq!((node.name.as_str(), configuration.installation.as_str()), ("alpha", "shop"));
    assert_eq!((node.labels["zone"].as_str(), node.labels.len()), ("eu", 2));
    assert_eq!((node.lease.num_seconds(), node.max_clock_skew.num_seconds()), (30, 2));
    for (wrong, word) in [
        ("[node]\nname = \"a=b\"", "selectors use"),
        ("[node.labels]\nname = \"x\"", "set `node.name`"),
        ("[node.labels]\nzone = \"a,b\"", "selectors use"),
        ("[node]\nlease_seconds = 2", "from 5 to 300"),
    ] {
        let faults = Installation::with_file(wrong).load().unwrap_err().to_string();
        assert!(faults.contains(word), "{wrong}: {faults}");
    }
}
