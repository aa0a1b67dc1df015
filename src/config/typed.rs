//! The configuration as typed values.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;
use watchbell_contract::SecretError;

use super::assembly;
use super::effective::EffectiveValue;
use super::fault::ConfigurationFaults;
use super::secret_url::SecretUrl;
use super::secrets::ConfiguredSecrets;
use super::variables::Flags;
use crate::domain::HistoryPolicy;
use crate::domain::planning::Limits;
use crate::domain::schedule::Schedule;

/// Everything that is configured outside the database.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// Watchbell's own database.
    pub database_url: SecretUrl,
    /// Where the web pages listen.
    pub listen: SocketAddr,
    /// The base of links in mail, without a `/` at its end.
    pub public_url: Option<String>,
    /// The zone of schedules whose row names none.
    pub default_timezone: Tz,
    /// Recipients for trouble of the installation itself.
    pub admins: Vec<String>,
    /// The name that all nodes of the installation share.
    pub installation: String,
    /// What this node is among others.
    pub node: Node,
    /// Where the `command` kind finds its programs; absolute if the working directory is.
    pub plugin_dirs: Vec<PathBuf>,
    /// Programs that run what their arguments name and may be used all the same.
    pub command_allow: Vec<String>,
    /// How mail is sent.
    pub mail: Mail,
    /// The databases that the `sql` kind may ask, by name.
    pub connections: BTreeMap<String, Connection>,
    /// Limits on checks.
    pub checks: Checks,
    /// Limits on noise; `admins` are not in it.
    pub delivery: Limits,
    /// Private certificate authorities that channels trust, PEM.
    pub channels_ca_file: Option<PathBuf>,
    /// Who is told on a schedule that this installation is alive.
    pub self_test: SelfTest,
    /// What outside is told that it is.
    pub deadman: Deadman,
    /// How long history is kept.
    pub history: History,
    /// How the log is written.
    pub log: Log,
    /// What resolves the references of database rows: only those that `secrets.allow` lists.
    pub row_secrets: Arc<ConfiguredSecrets>,
    /// The configuration file, if one was read.
    pub file: Option<PathBuf>,
    pub(super) effective: Vec<EffectiveValue>,
}

/// `node.*`.
#[derive(Debug, Clone)]
pub struct Node {
    /// For people, and for `runs_on`.
    pub name: String,
    /// What `runs_on` selects.
    pub labels: BTreeMap<String, String>,
    /// How long it may work without hearing from the database.
    pub lease: TimeDelta,
    /// How far its clock may be from the database's.
    pub max_clock_skew: TimeDelta,
}

/// `mail.*`.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The mail server; none: mail is written as files.
    pub url: Option<SecretUrl>,
    /// The sender, with or without a name; a mailbox as in RFC 5322.
    pub from: String,
    /// Connections at the same time.
    pub max_connections: u32,
    /// How long one step with the server may take.
    pub timeout: Duration,
    /// Private certificate authorities, PEM.
    pub ca_file: Option<PathBuf>,
}

/// One of `connections.<name>`.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The database.
    pub url: SecretUrl,
    /// Whether it may be Watchbell's own.
    pub allow_own_database: bool,
}

/// `checks.*`.
#[derive(Debug, Clone, Copy)]
pub struct Checks {
    /// Checks at the same time on this node.
    pub max_concurrent: usize,
    /// How long running checks may go on after a stop signal.
    pub shutdown_grace: Duration,
}

/// `self_test.*`.
#[derive(Debug, Clone)]
pub struct SelfTest {
    /// Nobody: it is off.
    pub recipients: Vec<String>,
    /// When, in its zone; `None` only in a configuration with faults.
    pub schedule: Option<Schedule>,
}

/// `deadman.*`.
#[derive(Debug, Clone)]
pub struct Deadman {
    /// What is pinged; none: nothing is.
    pub url: Option<SecretUrl>,
    /// Whether by POST.
    pub is_post: bool,
    /// How often.
    pub every: Duration,
}

/// `history.*`.
#[derive(Debug, Clone, Copy)]
pub struct History {
    /// How long runs, incidents and notifications are kept, and what is summed up by hour and day.
    pub keep: HistoryPolicy,
}

/// `log.*`.
#[derive(Debug, Clone)]
pub struct Log {
    /// How a line is written.
    pub format: LogFormat,
    /// A filter that `tracing-subscriber`'s `EnvFilter` accepts.
    pub level: String,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Configuration {
    /// Reads all layers. `environment` is [`super::process_environment`] outside tests; `working_dir` is where
    /// `watchbell.toml` is looked for, and what relative paths of flags and variables start from.
    ///
    /// # Errors
    /// Every fault of every layer.
    pub fn load(
        flags: &Flags,
        environment: impl IntoIterator<Item = (String, String)>,
        working_dir: &Path,
    ) -> Result<Self, ConfigurationFaults> {
        assembly::load(flags, environment.into_iter().collect(), working_dir)
    }

    /// What is in effect and where it was written, secrets masked, in the order of [`super::keys::KEYS`].
    pub fn effective(&self) -> &[EffectiveValue] {
        &self.effective
    }

    /// The part that kinds need. The URL of Watchbell's own database is resolved for it, so that the `sql` kind can
    /// tell a connection to the same database.
    ///
    /// # Errors
    /// [`SecretError`] where `database_url` holds a reference that cannot be resolved now.
    pub async fn settings(&self) -> Result<Arc<watchbell_monitors::Settings>, SecretError> {
        let own = self.database_url.reveal().await?;
        let connections = self.connections.iter().map(|(name, connection)| {
            let settings = watchbell_monitors::Connection {
                url: connection.url.secret(),
                allow_own_database: connection.allow_own_database,
            };
            (name.clone(), settings)
        });
        Ok(Arc::new(watchbell_monitors::Settings {
            connections: connections.collect(),
            plugin_dirs: self.plugin_dirs.clone(),
            command_allow: self.command_allow.clone(),
            own_database_url: Some(own.as_str().to_owned()),
        }))
    }
}
