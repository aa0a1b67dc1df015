//! The command line: arguments in, one answer out.
//!
//! Every command is a file that holds its arguments and what it does; it returns an [`Answer`] and prints nothing
//! itself, except for `serve` and `demo`, which speak while they run. Errors are printed here, once: `error: ` with
//! the chain of causes, then `hint: ` lines. The exit status is 0 for done, 1 for failed, 2 for wrong usage and for a
//! failed `check`.

mod add;
mod answer;
mod asking;
mod channels;
mod check;
mod columns;
mod config;
mod copy;
mod database_in_use;
mod demo;
mod doctor;
mod find;
mod history;
mod installation;
mod kinds;
mod ledger;
mod list;
mod logging;
mod migrate;
mod next;
mod nodes;
mod notify;
mod outbox;
mod pause;
mod route;
mod run_monitor;
mod serve;
mod show;
mod sql_text;
mod table;
mod why;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use watchbell_contract::Monitor;

use crate::config::{Configuration, ConfigurationFaults, Flags, process_environment};
use answer::{Answer, Status, print_answer, print_error};
use installation::{Access, IfMissing, Installation};

/// How long blocked threads of the runtime may hold up the end of the process: what counts is written by then.
const RUNTIME_END: Duration = Duration::from_millis(500);

/// What every command takes stands below what it alone takes.
const LAST: usize = 900;

/// Watches things on a cron schedule and tells people when they break. The database is the control plane: INSERT a
/// row into `monitors`, get a monitor.
#[derive(Debug, Parser)]
#[command(name = "watchbell", version, max_term_width = 120)]
#[command(after_help = "Without a command, `watchbell` serves. MONITOR is an id, a uuid or a name. \
    Exit status: 0 done, 1 failed, 2 wrong usage (and a failed `check`).")]
struct CommandLine {
    #[command(flatten)]
    file: FileFlag,
    /// Watchbell's own database, such as `sqlite://watchbell.db`
    #[arg(long, value_name = "URL", global = true, display_order = LAST)]
    database_url: Option<String>,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,watchbell=debug`
    #[arg(long, value_name = "LEVEL", global = true, display_order = LAST)]
    log_level: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// `--config` as most commands have it. `check` and `add` have a `--config` of their own, the child's parameters;
/// for them the file is named before the command.
#[derive(Debug, Clone, Default, Args)]
struct FileFlag {
    /// The configuration file, in place of `watchbell.toml` in the working directory
    #[arg(id = "configuration_file", long = "config", value_name = "FILE")]
    path: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Migrate, then run: scheduler, checks, delivery
    Serve(FileFlag),
    /// Apply migrations only
    Migrate(FileFlag),
    /// The kinds; one kind's parameters with an example INSERT
    Kinds(kinds::Arguments),
    /// The types of channels; one type's options with an example INSERT
    Channels(channels::Arguments),
    /// Run one child once, without a database; exit 0 ok, 2 failed
    Check(check::Arguments),
    /// One orchestrated run now, with a one-line summary
    Run(run_monitor::Arguments),
    /// All monitors, those in alert first
    List(list::Arguments),
    /// Everything of one monitor
    Show(show::Arguments),
    /// Register a monitor, and show the INSERT that does the same
    Add(Box<add::Arguments>),
    /// Pause a monitor: nothing runs, nothing new is sent
    Pause(pause::Arguments),
    /// End the pause of a monitor
    Resume(pause::Arguments),
    /// The latest runs of one monitor
    History(history::Arguments),
    /// The story of a tick: who was told, who was not, and why
    Why(why::Arguments),
    /// Send a marked test message, and show the service's answer
    Notify(notify::Arguments),
    /// What waits, is held or was given up; `outbox retry` sends again what was given up
    Outbox(outbox::Arguments),
    /// Who would be told of an alert now, and by which rule
    Route(route::Arguments),
    /// Who serves this database, who was lost, and how each does
    Nodes(nodes::Arguments),
    /// The next ticks, with what daylight saving does to them
    Next(next::Arguments),
    /// What is wrong with this installation, and how to mend it
    Doctor(doctor::Arguments),
    /// The effective configuration and where each value comes from, secrets masked
    Config(config::Arguments),
    /// Move an installation to another database: SQLite, PostgreSQL, MySQL or MariaDB
    Copy(copy::Arguments),
    /// A throwaway installation that shows an alert, a reminder and a recovery within a minute
    Demo(demo::Arguments),
}

impl Command {
    /// The configuration file that was named behind the command.
    fn file(&self) -> Option<&Path> {
        let file = match self {
            Command::Serve(file) | Command::Migrate(file) => file,
            Command::Demo(arguments) => &arguments.file,
            Command::Kinds(arguments) => &arguments.file,
            Command::Channels(arguments) => &arguments.file,
            Command::Run(arguments) => &arguments.file,
            Command::List(arguments) => &arguments.file,
            Command::Show(arguments) => &arguments.file,
            Command::Pause(arguments) | Command::Resume(arguments) => &arguments.file,
            Command::History(arguments) => &arguments.file,
            Command::Why(arguments) => &arguments.file,
            Command::Notify(arguments) => arguments.file(),
            Command::Outbox(arguments) => arguments.file(),
            Command::Route(arguments) => arguments.file(),
            Command::Nodes(arguments) => &arguments.file,
            Command::Next(arguments) => &arguments.file,
            Command::Doctor(arguments) => &arguments.file,
            Command::Config(arguments) => &arguments.file,
            Command::Copy(arguments) => &arguments.file,
            Command::Check(_) | Command::Add(_) => return None,
        };
        file.path.as_deref()
    }
}

/// See [`crate::run`].
pub(crate) fn run(extra_kinds: Vec<Box<dyn Monitor>>) -> ExitCode {
    // Fails only where the embedding program installed a provider already: then that one serves.
    drop(rustls::crypto::ring::default_provider().install_default());
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(usage) => {
            let status = if usage.use_stderr() { Status::Wrong } else { Status::Done };
            // Help that is piped into a program which does not read it to the end is no failure.
            drop(usage.print());
            return status.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return print_error(&anyhow::Error::new(error).context("cannot start the async runtime")),
    };
    let answer = runtime.block_on(execute(line, extra_kinds));
    runtime.shutdown_timeout(RUNTIME_END);
    match answer {
        Ok(answer) => print_answer(&answer),
        Err(error) => print_error(&error),
    }
}

async fn execute(line: CommandLine, extra_kinds: Vec<Box<dyn Monitor>>) -> anyhow::Result<Answer> {
    let working_dir = std::env::current_dir().context("cannot find out the working directory")?;
    let command = line.command.unwrap_or(Command::Serve(FileFlag::default()));
    let file = command.file().map(Path::to_owned).or(line.file.path);
    let flags = Flags::default().config(file).set("database_url", line.database_url).set("log.level", line.log_level);
    let loaded = Configuration::load(&flags, process_environment(), &working_dir);
    match command {
        Command::Doctor(arguments) => doctor(&arguments, loaded, extra_kinds).await,
        other => carry_out(other, loaded?, extra_kinds).await,
    }
}

/// `doctor` also works where the configuration does not.
async fn doctor(
    arguments: &doctor::Arguments,
    loaded: Result<Configuration, ConfigurationFaults>,
    extra_kinds: Vec<Box<dyn Monitor>>,
) -> anyhow::Result<Answer> {
    if let Ok(configuration) = &loaded {
        logging::start(configuration, logging::Speaker::OneCommand)?;
    }
    doctor::doctor(arguments, loaded, extra_kinds).await
}

async fn carry_out(
    command: Command,
    configuration: Configuration,
    extra_kinds: Vec<Box<dyn Monitor>>,
) -> anyhow::Result<Answer> {
    let speaker = match &command {
        Command::Serve(_) => logging::Speaker::Node,
        _ => logging::Speaker::OneCommand,
    };
    logging::start(&configuration, speaker)?;
    let if_missing = match &command {
        Command::Serve(_) | Command::Migrate(_) | Command::Add(_) => IfMissing::Make,
        _ => IfMissing::Refuse,
    };
    let access = access(&command);
    match command {
        Command::Kinds(arguments) => kinds::kinds(&arguments, &configuration, extra_kinds).await,
        Command::Channels(arguments) => channels::channels(&arguments, &configuration).await,
        Command::Check(arguments) => check::check(&arguments, &configuration, extra_kinds).await,
        Command::Config(arguments) => config::config(&arguments, &configuration),
        Command::Copy(arguments) => copy::copy(&arguments).await,
        Command::Next(arguments) if arguments.monitor.is_none() => next::of_schedule(&arguments, &configuration),
        Command::Demo(arguments) => demo::demo(&arguments, extra_kinds).await,
        Command::Serve(_) => serve::serve(configuration, extra_kinds).await.map(|()| Answer::silent()),
        on_the_database => {
            let installation = Installation::open(configuration, extra_kinds, if_missing, access).await?;
            on_database(on_the_database, installation).await
        }
    }
}

/// Whether a command changes what is in the database.
fn access(command: &Command) -> Access {
    let writes = match command {
        Command::Serve(_)
        | Command::Migrate(_)
        | Command::Add(_)
        | Command::Copy(_)
        | Command::Pause(_)
        | Command::Resume(_)
        | Command::Notify(_) => true,
        Command::Run(arguments) => arguments.writes(),
        Command::Outbox(arguments) => arguments.writes(),
        Command::List(_)
        | Command::Show(_)
        | Command::Nodes(_)
        | Command::History(_)
        | Command::Why(_)
        | Command::Route(_)
        | Command::Next(_)
        | Command::Kinds(_)
        | Command::Channels(_)
        | Command::Check(_)
        | Command::Doctor(_)
        | Command::Config(_)
        | Command::Demo(_) => false,
    };
    if writes { Access::Write } else { Access::Read }
}

async fn on_database(command: Command, installation: Installation) -> anyhow::Result<Answer> {
    let store = installation.store.clone();
    let answer = match command {
        Command::Migrate(_) => Ok(migrate::migrated(&installation)),
        Command::Run(arguments) => run_monitor::run_monitor(&arguments, &installation).await,
        Command::List(arguments) => list::list(&arguments, &installation).await,
        Command::Show(arguments) => show::show(&arguments, &installation).await,
        Command::Add(arguments) => add::add(&arguments, &installation).await,
        Command::Pause(arguments) => pause::set_active(&arguments, &installation, false).await,
        Command::Resume(arguments) => pause::set_active(&arguments, &installation, true).await,
        Command::History(arguments) => history::history(&arguments, &installation).await,
        Command::Why(arguments) => why::why(&arguments, &installation).await,
        Command::Notify(arguments) => notify::notify(&arguments, &installation).await,
        Command::Outbox(arguments) => outbox::outbox(&arguments, &installation).await,
        Command::Route(arguments) => route::route(&arguments, &installation).await,
        Command::Nodes(arguments) => nodes::nodes(&arguments, &installation).await,
        Command::Next(arguments) => next::of_monitor(&arguments, &installation).await,
        // Carried out before a database is opened, or open it themselves.
        Command::Serve(_)
        | Command::Kinds(_)
        | Command::Channels(_)
        | Command::Check(_)
        | Command::Doctor(_)
        | Command::Config(_)
        | Command::Copy(_)
        | Command::Demo(_) => Ok(Answer::silent()),
    };
    store.close().await;
    answer
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::CommandLine;

    #[test]
    fn the_arguments_are_consistent() {
        CommandLine::command().debug_assert();
    }
}
