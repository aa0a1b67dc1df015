//! The kind `command`: asks a program, as Nagios and Icinga do.
//!
//! The manifest below says what it checks. This file reads a row's config; `allowed` decides which names may run,
//! `locate` finds the file and distrusts it, `process` runs it within its bounds and leaves nothing behind, and
//! `verdict` reads what it said, with `perfdata` for the numbers and `text` for what bytes mean; `hidden`
//! keeps secrets out of its words.
//!
//! It must not start a shell, hand on this process's environment, or outlive its time-out.

mod allowed;
mod hidden;
mod locate;
mod mark;
mod perfdata;
mod pipes;
mod process;
mod text;
mod verdict;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::time::Instant;
use watchbell_contract::{
    Check, CheckContext, ConfigFaults, ConfigReader, Example, Manifest, Monitor, Outcome, Parameter, Revealed, Secret,
    async_trait,
};

use self::hidden::Hidden;
use self::verdict::Format;
use crate::Settings;

static MANIFEST: Manifest = Manifest {
    kind: "command",
    checks: "Whether a program says that all is well: any Nagios or Monitoring Plugins check, or a program of your \
             own that prints `{\"is_ok\": true, \"message\": \"...\"}`.",
    parameters: &[
        Parameter::required("program", "text", "the program's name, without a path; it is looked for in `plugin_dirs`"),
        Parameter::optional(
            "args",
            "list of text",
            "none",
            "its arguments, one item each, handed over as they stand: no shell reads them. Every user of the machine \
             can see them while the program runs, so secrets belong in `env` or `stdin`",
        ),
        Parameter::optional(
            "env",
            "object of text",
            "none",
            "its environment, beside `PATH`, `LC_ALL=C`, `LC_NUMERIC=C` and the mark `CHECKED_BY_WATCHBELL`; nothing \
             else is handed on. Variables that steer loaders and interpreters (`LD_PRELOAD`, `BASH_ENV`, `PERL5OPT`, ...) \
             need the program to be listed in `command.allow`",
        )
        .secret(),
        Parameter::optional("stdin", "text", "nothing", "what it reads from its standard input").secret(),
        Parameter::optional(
            "output",
            "`auto`, `nagios` or `json`",
            "auto",
            "how to read what it prints; `auto`: as JSON when it is an object with `is_ok`, else as a Nagios plugin's",
        ),
    ],
    verdicts: "A Nagios plugin: ok when it ends with exit code 0; failed as `warning` on 1, as `critical` on 2, and \
               with the row's severity on 3 and on anything else: another code, a signal, a time-out, a program that \
               is missing, not allowed or cannot be started. Performance data become metrics and never change the \
               verdict. A program that prints JSON: `is_ok`, `message`, and optionally `severity` and `metrics` are \
               taken as they stand; `is_ok` true with an exit code other than 0 is a failure.",
    examples: &[
        Example {
            name: "Root disk has room",
            schedule: "*/5 * * * *",
            config: r#"{"program": "check_disk", "args": ["-w", "10%", "-c", "5%", "-p", "/"]}"#,
        },
        Example {
            name: "Load is bearable",
            schedule: "* * * * *",
            config: r#"{"program": "check_load", "args": ["-r", "-w", "4,3,2", "-c", "8,6,4"]}"#,
        },
        Example {
            name: "Backup job agrees with itself",
            schedule: "15 6 * * *",
            config: r#"{"program": "backup_age", "args": ["--repository", "main"], "env": {"BACKUP_HOST": "vault.example.com"}, "output": "json"}"#,
        },
    ],
    limits: "Only programs in `plugin_dirs` run, and only when nobody but root and Watchbell's own user can change \
             them; programs that run what their arguments name (`negate`, `check_by_ssh`, shells, interpreters) must be \
             listed in `command.allow`, by name: a copy under another name is not recognised. Whoever may insert rows \
             of this kind may run these programs. The first 8 KiB of output are kept, the rest is read and dropped; a \
             program that prints more than 64 MiB is ended. A check ends itself shortly before `timeout_seconds` (a \
             fifth of it, at most 2 s): TERM to the process group, then KILL; a group is also killed when its program \
             has ended. Processes that left the group are found, on a time-out, by the variable `CHECKED_BY_WATCHBELL` that \
             they inherited (Linux); one that cleared its environment or became another user escapes. It starts in `/`. \
             What secret references stand for is replaced by `***` in messages, unless it is shorter than 4 \
             bytes or the program printed it in another form.",
    looks_at_this_machine: true,
};

/// The kind `command`.
pub struct Command {
    settings: Arc<Settings>,
}

impl Command {
    /// The kind, with the installation's `plugin_dirs` and `command.allow`.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self { settings }
    }
}

/// Why no program of this directory is run: the problem, and a hint. `None` where programs are, and where it does not
/// exist. It blocks its thread for as long as looking at some directories takes.
pub fn distrust(dir: &Path) -> Option<(String, String)> {
    locate::distrust(dir).map(|refusal| (refusal.problem, refusal.hint))
}

impl Monitor for Command {
    fn manifest(&self) -> &Manifest {
        &MANIFEST
    }

    fn prepare(&self, mut config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        let program = config.required_text("program");
        if !program.is_empty()
            && let Err(refusal) = allowed::name(&program, &self.settings.command_allow)
        {
            config.fault("program", refusal.problem, Some(refusal.hint));
        }
        let args = config.texts("args");
        if args.iter().any(|argument| argument.contains('\0')) {
            config.fault("args", "an argument holds a NUL, which no program can be given", None);
        }
        let env = read_env(&mut config, &program, &self.settings.command_allow);
        let stdin = config.secret("stdin");
        let format = match config.choice("output", &["auto", "nagios", "json"]).as_deref() {
            Some("nagios") => Format::Nagios,
            Some("json") => Format::Json,
            _ => Format::Auto,
        };
        config.finish(CommandCheck { settings: self.settings.clone(), program, args, env, stdin, format })
    }
}

fn read_env(config: &mut ConfigReader<'_>, program: &str, allow: &[String]) -> BTreeMap<String, Secret> {
    let env = config.secret_map("env");
    for name in env.keys() {
        if let Err(refusal) = allowed::variable(name, program, allow) {
            config.fault(&format!("env.{name}"), refusal.problem, Some(refusal.hint));
        }
    }
    env
}

struct CommandCheck {
    settings: Arc<Settings>,
    program: String,
    args: Vec<String>,
    env: BTreeMap<String, Secret>,
    stdin: Option<Secret>,
    format: Format,
}

#[async_trait]
impl Check for CommandCheck {
    async fn check(&self, context: &CheckContext) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        let (settings, program) = (self.settings.clone(), self.program.clone());
        // File systems can hang; a thread of the blocking pool may wait for them, this one may not.
        let found = tokio::task::spawn_blocking(move || {
            locate::program(&program, &settings.plugin_dirs, &settings.command_allow)
        });
        let path = found.await.context("the search for the program broke off")??;

        let mut hidden = Hidden::default();
        let mut env = BTreeMap::new();
        for (name, text) in &self.env {
            let value = reveal(text, &mut hidden).await.with_context(|| format!("config.env.{name}"))?;
            env.insert(name.clone(), value);
        }
        let stdin = match &self.stdin {
            Some(text) => Some(reveal(text, &mut hidden).await.context("config.stdin")?),
            None => None,
        };
        let request = process::Request { path: &path, args: &self.args, env: &env, stdin: stdin.as_ref() };
        let finished = process::run(&request, &process::Time::divide(started, context.timeout)).await?;
        Ok(hidden.hide(verdict::read(&self.program, self.format, &finished)))
    }
}

async fn reveal(text: &Secret, hidden: &mut Hidden) -> anyhow::Result<Revealed> {
    let value = text.reveal().await?;
    hidden.note(&value);
    Ok(value)
}

#[cfg(test)]
mod tests;
