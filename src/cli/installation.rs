//! What every command that touches the database works with: the configuration, the database, the kinds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use watchbell_contract::Monitor;

use super::answer::Trouble;
use super::database_in_use::DatabaseInUse;
use crate::channels::{ChannelSettings, Channels, EmailSettings, HttpPinger, MailFiles, MailFilesSettings, SmtpMail};
use crate::config::{Configuration, Deadman, SelfTest as SelfTestKeys, Source};
use crate::domain::Policy;
use crate::domain::planning::Limits;
use crate::engine::{Alive, DeadMan, Kinds, Membership, SelfTest};
use crate::ports::{Channel, ChannelSource, Clock, NodeIdentity, Store, StoreError, SystemClock};
use crate::store::{Opening, SqlStore};

/// Whether a database that is not there is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfMissing {
    /// It is made (a file), and so are its tables.
    Make,
    /// That is an error: in a wrong working directory, an empty database would tell that all is well.
    Refuse,
}

/// What a command does with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// It changes something: then the database must be this installation's.
    Write,
    /// It only looks.
    Read,
}

/// An installation, opened.
pub(crate) struct Installation {
    /// Everything that is configured outside the database.
    pub(crate) configuration: Configuration,
    /// The URL of the database with its secrets resolved: not for people.
    pub(crate) database_url: String,
    /// The database that the URL names, for people.
    pub(crate) database: DatabaseInUse,
    /// The database.
    pub(crate) store: Arc<dyn Store>,
    /// The same, for what only people at the command line ask of it.
    pub(crate) sql: Arc<SqlStore>,
    /// The kinds of this installation.
    pub(crate) kinds: Arc<Kinds>,
    /// The wall clock.
    pub(crate) clock: Arc<dyn Clock>,
    /// This process, as it signs what it does.
    pub(crate) node: NodeIdentity,
}

/// All that an installation needs before its database is there.
pub(crate) struct Prepared {
    configuration: Configuration,
    database_url: String,
    /// The database that the URL names, for people.
    pub(crate) database: DatabaseInUse,
    kinds: Arc<Kinds>,
    clock: Arc<dyn Clock>,
    if_missing: IfMissing,
}

impl Prepared {
    /// Resolves what is configured.
    ///
    /// # Errors
    /// What is wrong with `database_url` or the kinds.
    pub(crate) async fn of(
        configuration: Configuration,
        extra_kinds: Vec<Box<dyn Monitor>>,
        if_missing: IfMissing,
    ) -> anyhow::Result<Self> {
        let database_url = configuration.database_url.reveal().await.context("database_url")?.as_str().to_owned();
        let database = database_in_use(&database_url, &configuration.database_url.masked())?;
        if if_missing == IfMissing::Refuse {
            refuse_missing(&database)?;
        }
        let kinds = Arc::new(kinds(&configuration, extra_kinds).await?);
        Ok(Self { configuration, database_url, database, kinds, clock: Arc::new(SystemClock), if_missing })
    }

    /// Opens the database, and brings its tables up to date.
    ///
    /// # Errors
    /// What keeps it from being opened, with a hint.
    pub(crate) async fn connect(&self) -> Result<SqlStore, StoreError> {
        let opening = Opening {
            installation: Some(&self.configuration.installation),
            may_make: self.if_missing == IfMissing::Make,
        };
        SqlStore::open_if(opening, &self.database_url, self.clock.clone()).await
    }

    /// The installation over an open database.
    ///
    /// # Errors
    /// When the database is another installation's, and is to be written.
    pub(crate) async fn over(self, store: SqlStore, access: Access) -> anyhow::Result<Installation> {
        let Self { configuration, database_url, database, kinds, clock, .. } = self;
        let store = Arc::new(store.with_default_zone(configuration.default_timezone));
        check_name(&store, &configuration.installation, access).await?;
        let node = NodeIdentity { uuid: uuid::Uuid::new_v4().to_string(), name: configuration.node.name.clone() };
        Ok(Installation { configuration, database_url, database, store: store.clone(), sql: store, kinds, clock, node })
    }
}

impl Installation {
    /// Opens the database that is configured, and brings its tables up to date.
    ///
    /// # Errors
    /// What keeps it from being opened, with a hint.
    pub(crate) async fn open(
        configuration: Configuration,
        extra_kinds: Vec<Box<dyn Monitor>>,
        if_missing: IfMissing,
        access: Access,
    ) -> anyhow::Result<Self> {
        let prepared = Prepared::of(configuration, extra_kinds, if_missing).await?;
        let store = prepared.connect().await?;
        prepared.over(store, access).await
    }

    /// The time by the database's clock: leases and due times are judged by it, also where this machine's clock is wrong.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn database_time(&self) -> Result<DateTime<Utc>, StoreError> {
        Ok(self.store.live_nodes().await?.now)
    }

    /// What the configuration says about messages.
    pub(crate) fn policy(&self) -> Policy {
        Policy { admins: self.configuration.admins.clone(), default_zone: self.configuration.default_timezone }
    }

    /// What the configuration says about noise.
    pub(crate) fn limits(&self) -> Limits {
        Limits { admins: self.configuration.admins.clone(), ..self.configuration.delivery.clone() }
    }

    /// What the configuration says of this node among others.
    pub(crate) fn membership(&self) -> Membership {
        let node = &self.configuration.node;
        Membership {
            labels: node.labels.clone(),
            lease: node.lease,
            max_clock_skew: node.max_clock_skew,
            settings: self.shared_settings(),
        }
    }

    /// The settings that must be the same on all nodes, as `watchbell config` shows them: nothing of them is secret.
    pub(crate) fn shared_settings(&self) -> BTreeMap<String, String> {
        const SHARED: [&str; 4] = ["default_timezone", "admins", "public_url", "mail.from"];
        let effective = self.configuration.effective().iter();
        effective
            .filter(|value| SHARED.contains(&value.key.as_str()) || value.key.starts_with("delivery."))
            // The default of `mail.from` holds the host's name, and differs everywhere.
            .filter(|value| value.key != "mail.from" || value.source != Source::Default)
            .map(|value| (value.key.clone(), value.shown()))
            .collect()
    }

    /// Where messages go: mail, and whatever the rows of `channels` name.
    ///
    /// # Errors
    /// What is wrong with `mail.*`.
    pub(crate) fn channels(&self) -> anyhow::Result<Arc<dyn ChannelSource>> {
        Ok(self.channels_with(self.mail()?))
    }

    /// The same over a channel for mail that is there already.
    pub(crate) fn channels_with(&self, mail: Arc<dyn Channel>) -> Arc<dyn ChannelSource> {
        Arc::new(Channels::new(self.channel_settings(mail)))
    }

    /// How it is told outside that this installation is alive.
    ///
    /// # Errors
    /// What is wrong with `channels.ca_file`.
    pub(crate) fn alive(&self) -> anyhow::Result<Alive> {
        let SelfTestKeys { recipients, schedule } = self.configuration.self_test.clone();
        let self_test = schedule.map(|schedule| SelfTest { recipients, schedule });
        let Deadman { url, is_post, every } = &self.configuration.deadman;
        let dead_man = match url {
            Some(url) => {
                let settings = self.channel_settings(self.mail()?);
                let pinger = HttpPinger::new(url.secret(), *is_post, &settings).context("deadman.url")?;
                Some(DeadMan { pinger: Arc::new(pinger), every: *every })
            }
            None => None,
        };
        Ok(Alive { self_test, dead_man })
    }

    fn channel_settings(&self, mail: Arc<dyn Channel>) -> ChannelSettings {
        ChannelSettings {
            secrets: self.configuration.row_secrets.clone(),
            public_url: self.configuration.public_url.clone(),
            ca_file: self.configuration.channels_ca_file.clone(),
            mail,
        }
    }

    /// Where mail goes: the mail server that is configured, or files beside the database.
    ///
    /// # Errors
    /// What is wrong with `mail.*`.
    pub(crate) fn mail(&self) -> anyhow::Result<Arc<dyn Channel>> {
        match smtp(&self.configuration)? {
            Some(smtp) => Ok(Arc::new(smtp)),
            None => {
                let settings = MailFilesSettings {
                    dir: mail_dir(&self.database),
                    from: self.configuration.mail.from.clone(),
                    public_url: self.configuration.public_url.clone(),
                };
                Ok(Arc::new(MailFiles::new(settings)?))
            }
        }
    }
}

/// The mail server, where one is configured. Nothing is connected to.
///
/// # Errors
/// What is wrong with `mail.*`.
pub(crate) fn smtp(configuration: &Configuration) -> anyhow::Result<Option<SmtpMail>> {
    let mail = &configuration.mail;
    let Some(url) = &mail.url else { return Ok(None) };
    let settings = EmailSettings {
        url: url.secret(),
        from: mail.from.clone(),
        ca_file: mail.ca_file.clone(),
        timeout: mail.timeout,
        max_connections: mail.max_connections,
        public_url: configuration.public_url.clone(),
    };
    Ok(Some(SmtpMail::new(settings)?))
}

/// Where mail is written as files: `mail/` beside the database file; for a server, in the working directory, since the
/// folder of the configuration is seldom one that a service may write to.
pub(crate) fn mail_dir(database: &DatabaseInUse) -> PathBuf {
    let folder = match database {
        DatabaseInUse::File(path) => path.parent(),
        DatabaseInUse::Postgres(_) | DatabaseInUse::MySql(_) => None,
    };
    let dir = folder.map_or_else(|| PathBuf::from("mail"), |folder| folder.join("mail"));
    // Whole, because it is shown to people, who may be elsewhere, and stands in the log.
    std::path::absolute(&dir).unwrap_or(dir)
}

/// The kinds that come with Watchbell, and those of the program that embeds it.
///
/// # Errors
/// When `database_url` cannot be resolved, or two kinds have one name.
pub(crate) async fn kinds(configuration: &Configuration, extra_kinds: Vec<Box<dyn Monitor>>) -> anyhow::Result<Kinds> {
    let settings = configuration.settings().await.context("database_url")?;
    let mut kinds = watchbell_monitors::all(&settings);
    kinds.extend(extra_kinds);
    Ok(Kinds::new(kinds, configuration.row_secrets.clone())?)
}

fn database_in_use(url: &str, shown: &str) -> Result<DatabaseInUse, Trouble> {
    const HINT: &str = "write `sqlite://watchbell.db`, `postgres://user:password@host/database` or `mysql://user:password@host/database`";
    let scheme = url.split(':').next().unwrap_or_default();
    let is_known = ["sqlite", "postgres", "postgresql", "mysql", "mariadb"].contains(&scheme);
    let database = if is_known { DatabaseInUse::of_url(url) } else { None };
    database.ok_or_else(|| Trouble::failed(format!("database_url: `{shown}` is no URL of a database")).hint(HINT))
}

/// Two installations on one database would tell each other's people, and would do so twice.
async fn check_name(store: &SqlStore, configured: &str, access: Access) -> anyhow::Result<()> {
    let other = match access {
        Access::Write => Some(store.claim_installation(configured).await?).filter(|found| found != configured),
        Access::Read => store.other_owner(configured).await?,
    };
    let Some(found) = other else { return Ok(()) };
    let problem =
        format!("the database belongs to the installation `{found}`, and this node is configured for `{configured}`");
    match access {
        Access::Read => {
            tracing::warn!("{problem}; is `database_url` right?");
            Ok(())
        }
        Access::Write => {
            store.close().await;
            Err(Trouble::failed(problem)
                .hint("name a database of its own for this installation (`database_url`), as two do not mix")
                .hint(format!(
                    "or, if this node belongs to `{found}`, set `installation = \"{found}\"` in its configuration"
                ))
                .hint("to rename an installation, stop its nodes and `UPDATE installation SET name = '...'`")
                .into())
        }
    }
}

fn refuse_missing(database: &DatabaseInUse) -> anyhow::Result<()> {
    let DatabaseInUse::File(path) = database else { return Ok(()) };
    // A path that cannot be looked at, or whose folder is missing, is told better by whoever opens it.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return Ok(());
    }
    match path.try_exists() {
        Ok(false) => Err(Trouble::failed(format!("there is no database `{}`", path.display()))
            .hint("`watchbell serve` and `watchbell migrate` make one")
            .hint("the database of another directory is named by `--database-url` or `--config`")
            .into()),
        Ok(true) | Err(_) => Ok(()),
    }
}
