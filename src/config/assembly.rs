//! How the layers become a [`Configuration`]: every key read once, in the order of [`super::keys::KEYS`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;
use serde_json::json;
use watchbell_contract::Secrets;

use super::fault::{ConfigurationFault, ConfigurationFaults};
use super::file;
use super::layers::{Layers, Source};
use super::reader::{Reader, Refusal};
use super::secret_url::SecretUrl;
use super::secrets::{BadPattern, ConfiguredSecrets, SecretPattern, SecretSources};
use super::shapes;
use super::typed::{Checks, Configuration, Connection, Deadman, History, Log, LogFormat, Mail, Node, SelfTest};
use super::variables::{Flags, read_flags, read_variables};
use crate::domain::HistoryPolicy;
use crate::domain::planning::Limits;
use crate::domain::schedule::Schedule;

/// The file that is read where `--config` names none.
const DEFAULT_FILE: &str = "watchbell.toml";

/// Reads all layers and puts them together.
pub(super) fn load(
    flags: &Flags,
    environment: BTreeMap<String, String>,
    working_dir: &Path,
) -> Result<Configuration, ConfigurationFaults> {
    let mut faults = Vec::new();
    let mut layers = Layers::defaults();
    let name = flags.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let path = working_dir.join(&name);
    file::read(&name, &path, flags.config.is_some(), &mut layers, &mut faults);
    read_variables(&environment, &mut layers, &mut faults);
    read_flags(flags, &mut layers);

    let sources = SecretSources::new(environment);
    let secrets: Arc<dyn Secrets> = Arc::new(ConfiguredSecrets::for_configuration(sources.clone()));
    let reader = Reader::new(layers, secrets, faults);
    let file_dir = path.parent().unwrap_or(working_dir).to_owned();
    let file = path.is_file().then_some(path);
    Assembly { reader, working_dir: working_dir.to_owned(), file_dir, sources }.assemble(file)
}

struct Assembly {
    reader: Reader,
    working_dir: PathBuf,
    /// The folder of the configuration file, also where the file is missing.
    file_dir: PathBuf,
    sources: SecretSources,
}

impl Assembly {
    /// Reads the keys in the order of [`super::keys::KEYS`]. A value that could not be read is `None` here and has a
    /// fault; the placeholders below never leave this function, because then the faults are returned.
    fn assemble(mut self, file: Option<PathBuf>) -> Result<Configuration, ConfigurationFaults> {
        let database_url = self.reader.secret_url("database_url", shapes::database_url);
        let listen = self.reader.text("listen", shapes::listen);
        let public_url = self.reader.text("public_url", shapes::public_url);
        let default_timezone = self.reader.text("default_timezone", shapes::timezone).unwrap_or_default();
        let admins = items(self.reader.list("admins", shapes::recipient));
        let installation = self.reader.text("installation", shapes::installation_name).unwrap_or_default();
        let node = self.node();
        let plugin_dirs = self.plugin_dirs();
        let command_allow = items(self.reader.list("command.allow", shapes::program));
        let mail = self.mail();
        let connections = self.connections();
        let allowed = items(self.reader.list("secrets.allow", secret_pattern));
        let checks = Checks {
            max_concurrent: self.reader.whole("checks.max_concurrent").unwrap_or_default(),
            shutdown_grace: self.seconds("checks.shutdown_grace_seconds"),
        };
        let channels_ca_file = self.channels_ca_file();
        let delivery = self.delivery();
        let self_test = self.self_test(default_timezone);
        let deadman = self.deadman();
        let history = self.history();
        let log = self.log();
        let effective = self.reader.finish();
        let row_secrets = Arc::new(ConfiguredSecrets::for_rows(allowed, self.sources));
        match (effective, database_url, listen) {
            (Ok(effective), Some(database_url), Some(listen)) => Ok(Configuration {
                database_url,
                listen,
                public_url,
                default_timezone,
                admins,
                installation,
                node,
                plugin_dirs,
                command_allow,
                mail,
                connections,
                checks,
                delivery,
                channels_ca_file,
                self_test,
                deadman,
                history,
                log,
                row_secrets,
                file,
                effective,
            }),
            (Err(faults), ..) => Err(ConfigurationFaults(faults)),
            // Both have defaults; this is for whoever takes them away.
            (Ok(_), ..) => Err(ConfigurationFaults(vec![ConfigurationFault {
                key: None,
                source: Source::Default,
                problem: "`database_url` and `listen` must have values".to_owned(),
                hint: "set both".to_owned(),
            }])),
        }
    }

    fn plugin_dirs(&mut self) -> Vec<PathBuf> {
        let read = self.reader.list("plugin_dirs", |text| match text {
            "" => Err(Refusal::new("a folder is empty", "write its path, or leave the key out")),
            path => Ok(PathBuf::from(path)),
        });
        match read {
            Some((paths, source)) => {
                let paths: Vec<PathBuf> = paths.iter().map(|path| self.resolve(path, &source)).collect();
                self.reader.show_as("plugin_dirs", json!(paths));
                paths
            }
            None => {
                let default = self.file_dir.join("plugins");
                self.reader.show_as("plugin_dirs", json!([default]));
                vec![default]
            }
        }
    }

    fn node(&mut self) -> Node {
        let name = self.reader.text("node.name", shapes::node_name).unwrap_or_else(|| {
            let name = host_name();
            self.reader.show_as("node.name", json!(name));
            name
        });
        let mut labels = BTreeMap::new();
        for label in self.reader.labels() {
            let key = format!("node.labels.{label}");
            if let Err(refusal) = shapes::label(&label) {
                let source = self.reader.source(&key).unwrap_or(Source::Default);
                self.reader.fault(&key, source, refusal);
            }
            if let Some(value) = self.reader.text(&key, shapes::label_value) {
                labels.insert(label, value);
            }
        }
        let span = |reader: &mut Reader, key: &str| {
            reader.whole::<i64>(key).and_then(TimeDelta::try_seconds).unwrap_or_default()
        };
        let lease = span(&mut self.reader, "node.lease_seconds");
        let max_clock_skew = span(&mut self.reader, "node.max_clock_skew_seconds");
        Node { name, labels, lease, max_clock_skew }
    }

    fn mail(&mut self) -> Mail {
        let url = self.reader.secret_url("mail.url", shapes::mail_url);
        let from = self.reader.text("mail.from", shapes::sender).unwrap_or_else(|| {
            let from = default_sender();
            self.reader.show_as("mail.from", json!(from));
            from
        });
        let max_connections = self.reader.whole("mail.max_connections").unwrap_or_default();
        let timeout = self.seconds("mail.timeout_seconds");
        let ca_file = self.reader.path("mail.ca_file").map(|(path, source)| self.resolve(&path, &source));
        if let Some(path) = &ca_file {
            self.reader.show_as("mail.ca_file", json!(path));
        }
        Mail { url, from, max_connections, timeout, ca_file }
    }

    fn connections(&mut self) -> BTreeMap<String, Connection> {
        let mut connections = BTreeMap::new();
        for name in self.reader.connections() {
            let key = format!("connections.{name}.url");
            let source = self.reader.source(&key).unwrap_or(Source::Default);
            if let Err(refusal) = shapes::connection_name(&name) {
                self.reader.fault(&format!("connections.{name}"), source.clone(), refusal);
            }
            let is_given = self.reader.source(&key).is_some();
            let url = self.reader.secret_url(&key, shapes::database_url);
            let allow_key = format!("connections.{name}.allow_own_database");
            let allow_source = self.reader.source(&allow_key);
            let allow_own_database = self.reader.flag(&allow_key).unwrap_or_default();
            self.reader.show_as(&allow_key, json!(allow_own_database));
            match url {
                Some(url) => {
                    connections.insert(name, Connection { url, allow_own_database });
                }
                None if is_given => {}
                None => self.reader.fault(
                    &key,
                    allow_source.unwrap_or(source),
                    Refusal::new("the connection has no URL", "write `url = \"postgres://...\"` beside it"),
                ),
            }
        }
        connections
    }

    fn log(&mut self) -> Log {
        let format = match self.reader.choice("log.format") {
            Some("json") => LogFormat::Json,
            _ => LogFormat::Text,
        };
        Log { format, level: self.reader.text("log.level", shapes::log_level).unwrap_or_default() }
    }

    fn delivery(&mut self) -> Limits {
        let span = |reader: &mut Reader, key: &str| {
            reader.whole::<i64>(key).and_then(TimeDelta::try_seconds).unwrap_or_default()
        };
        Limits {
            repetition: span(&mut self.reader, "delivery.repetition_seconds"),
            storm_first: self.reader.whole("delivery.storm_first").unwrap_or_default(),
            storm_window: span(&mut self.reader, "delivery.storm_window_seconds"),
            cut_off_monitors: self.reader.whole("delivery.cut_off_monitors").unwrap_or_default(),
            dependency_wait: span(&mut self.reader, "delivery.dependency_wait_seconds"),
            admins: Vec::new(),
        }
    }

    fn self_test(&mut self, default_timezone: Tz) -> SelfTest {
        let recipients = items(self.reader.list("self_test.recipients", shapes::recipient));
        // Whether it can be read and ever fires does not depend on the zone.
        let text = self.reader.text("self_test.schedule", |text| {
            let read = Schedule::parse(text, default_timezone);
            read.map(|_| text.to_owned()).map_err(|error| Refusal::new(error.problem(), error.hint()))
        });
        let zone = self.reader.text("self_test.timezone", shapes::timezone).unwrap_or_else(|| {
            self.reader.show_as("self_test.timezone", json!(default_timezone.name()));
            default_timezone
        });
        SelfTest { recipients, schedule: text.and_then(|text| Schedule::parse(&text, zone).ok()) }
    }

    fn deadman(&mut self) -> Deadman {
        let url = self.reader.secret_url("deadman.url", shapes::deadman_url);
        // Whoever knows its path can keep it quiet.
        if let Some((scheme, rest)) =
            url.as_ref().map(SecretUrl::masked).as_deref().and_then(|url| url.split_once("://"))
        {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            self.reader.show_as("deadman.url", json!(format!("{scheme}://{host}/***")));
        }
        let is_post = self.reader.choice("deadman.method") == Some("POST");
        let every = self.seconds("deadman.every_seconds");
        Deadman { url, is_post, every }
    }

    fn history(&mut self) -> History {
        let mut days = |key| self.reader.whole::<i64>(key).and_then(TimeDelta::try_days).unwrap_or_default();
        let runs = days("history.keep_days");
        let kept = |kept: TimeDelta| (!kept.is_zero()).then_some(kept);
        let (hours, days) = (kept(days("history.hourly_keep_days")), kept(days("history.daily_keep_days")));
        History { keep: HistoryPolicy { runs, hours, days } }
    }

    fn channels_ca_file(&mut self) -> Option<PathBuf> {
        let (path, source) = self.reader.path("channels.ca_file")?;
        let path = self.resolve(&path, &source);
        self.reader.show_as("channels.ca_file", json!(path));
        Some(path)
    }

    fn seconds(&mut self, key: &str) -> Duration {
        Duration::from_secs(self.reader.whole(key).unwrap_or_default())
    }

    /// A relative path of the file starts beside the file; of a variable or a flag, in the working directory.
    fn resolve(&self, path: &Path, source: &Source) -> PathBuf {
        match source {
            Source::File { .. } | Source::WholeFile(_) => self.file_dir.join(path),
            Source::Flag(_) | Source::Variable(_) | Source::Default => self.working_dir.join(path),
        }
    }
}

fn secret_pattern(text: &str) -> Result<SecretPattern, Refusal> {
    text.parse().map_err(|problem: BadPattern| {
        Refusal::new(
            problem.to_string(),
            "write a pattern such as `env:WB_*`, `file:/etc/watchbell/secrets/*`, `credential:*` or `pass:watchbell/*`",
        )
    })
}

/// This machine's name, for people.
fn host_name() -> String {
    hostname::get().map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// `watchbell@` and the host's name; a host whose name makes no address is `localhost`.
fn default_sender() -> String {
    let host = hostname::get().ok().and_then(|name| name.into_string().ok());
    host.map(|host| format!("watchbell@{host}"))
        .filter(|sender| shapes::sender(sender).is_ok())
        .unwrap_or_else(|| "watchbell@localhost".to_owned())
}

/// The items of a list that was read, without where it was written.
fn items<T>(read: Option<(Vec<T>, Source)>) -> Vec<T> {
    read.map(|(items, _)| items).unwrap_or_default()
}
