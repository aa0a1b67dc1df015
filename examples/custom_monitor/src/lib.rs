//! The kind `queue_depth`: how many files wait in a folder, such as a mail spool, a print queue or a drop folder.
//!
//! What people read of a kind is its manifest. `prepare` reads a row's `config`, `check` asks once. Neither knows of
//! schedules, states or mail.

use std::path::PathBuf;

use anyhow::Context as _;
use watchbell_contract::{
    Check, CheckContext, ConfigFaults, ConfigReader, Example, Manifest, Monitor, Outcome, Parameter, async_trait,
};

/// More files are not counted: the answer is clear by then, and a check must be bounded.
const MOST_COUNTED: i64 = 1_000_000;

static MANIFEST: Manifest = Manifest {
    kind: "queue_depth",
    checks: "How many files wait in a folder.",
    parameters: &[
        Parameter::required("folder", "text", "the folder, as an absolute path"),
        Parameter::optional("max", "whole number", "0", "so many files may wait"),
    ],
    verdicts: "ok while at most `max` files wait; failed when there are more, or when the folder cannot be read.",
    examples: &[Example {
        name: "Mail queue is short",
        schedule: "*/5 * * * *",
        config: r#"{"folder": "/var/spool/postfix/deferred", "max": 100}"#,
    }],
    limits: "Folders in the folder are not looked into and not counted. It stops counting at 1,000,000.",
    looks_at_this_machine: true,
};

/// The kind `queue_depth`.
pub struct QueueDepth;

impl Monitor for QueueDepth {
    fn manifest(&self) -> &Manifest {
        &MANIFEST
    }

    fn prepare(&self, mut config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        let folder = PathBuf::from(config.required_text("folder"));
        if folder.is_relative() && !folder.as_os_str().is_empty() {
            config.fault("folder", "is no absolute path", Some("begin it with `/`".to_owned()));
        }
        let max = config.whole_number("max", 0..=MOST_COUNTED).unwrap_or_default();
        config.finish(FolderCheck { folder, max })
    }
}

struct FolderCheck {
    folder: PathBuf,
    max: i64,
}

#[async_trait]
impl Check for FolderCheck {
    async fn check(&self, _context: &CheckContext) -> anyhow::Result<Outcome> {
        let shown = self.folder.display();
        // An error is a failed outcome with the chain of its causes as message.
        let mut entries = tokio::fs::read_dir(&self.folder).await.with_context(|| format!("cannot read `{shown}`"))?;
        let mut waiting = 0;
        while let Some(entry) = entries.next_entry().await.with_context(|| format!("cannot read `{shown}`"))? {
            // A file may be taken away while it is looked at: then it waits no more.
            let is_file = entry.file_type().await.is_ok_and(|kind| kind.is_file());
            waiting += i64::from(is_file);
            if waiting > MOST_COUNTED {
                break;
            }
        }
        let message = format!("{waiting} files wait in `{shown}`, {} are allowed", self.max);
        let outcome = if waiting <= self.max { Outcome::ok(message) } else { Outcome::failed(message) };
        Ok(outcome.with_metric("waiting_files", waiting as f64))
    }
}
