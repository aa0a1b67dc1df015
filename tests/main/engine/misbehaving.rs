//! Kinds that do everything wrong that a child can do.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use watchbell_contract::{
    Check, CheckContext, ConfigFaults, ConfigReader, Example, Manifest, Monitor, Outcome, Parameter,
};

static CHILD: Manifest = Manifest {
    kind: "child",
    checks: "Nothing.",
    parameters: &[Parameter::required("does", "text", "what it does wrong")],
    verdicts: "As it likes.",
    examples: &[Example { name: "Well", schedule: "* * * * *", config: r#"{"does": "well"}"# }],
    limits: "For tests.",
    looks_at_this_machine: false,
};

static PANICS_IN_PREPARE: Manifest = Manifest { kind: "panics_in_prepare", ..CHILD };

/// Does what its config says.
pub(super) struct Child;

impl Monitor for Child {
    fn manifest(&self) -> &Manifest {
        &CHILD
    }

    fn prepare(&self, mut config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        let does = config.required_text("does");
        config.finish(ChildCheck { does, was_asked: AtomicBool::new(false) })
    }
}

struct ChildCheck {
    does: String,
    /// Set by the one that panics when it is dropped after its check.
    was_asked: AtomicBool,
}

impl Check for ChildCheck {
    // Written out, since an `async fn` cannot panic before it is awaited.
    fn check<'life0, 'life1, 'async_trait>(
        &'life0 self,
        _context: &'life1 CheckContext,
    ) -> Pin<Box<dyn Future<Output = anyhow::Result<Outcome>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        assert!(self.does != "panic_at_once", "it failed before the first await");
        self.was_asked.store(self.does == "panic_when_done", Ordering::SeqCst);
        Box::pin(misbehave(&self.does))
    }
}

async fn misbehave(does: &str) -> anyhow::Result<Outcome> {
    match does {
        "panic_later" => {
            tokio::time::sleep(Duration::from_millis(5)).await;
            panic!("it failed after the first await");
        }
        "panic_without_text" => std::panic::panic_any(42),
        "hang" => std::future::pending().await,
        "panic_when_dropped" => {
            let _guard = PanicsWhenDropped;
            std::future::pending().await
        }
        "block" => std::thread::sleep(Duration::from_millis(2_500)),
        "error" => Err(anyhow::anyhow!("the wire is cut")).context("the shop cannot be asked")?,
        "error_that_panics" => Err(PanicsWhenRead)?,
        "say_nothing" => return Ok(Outcome::failed("")),
        "say_nothing_well" => return Ok(Outcome::ok(" \n")),
        "measure_nonsense" => return Ok(nonsense()),
        "say_too_much" => return Ok(Outcome::failed("x".repeat(1024 * 1024))),
        "say_nul" => return Ok(Outcome::failed("before\0after\r\nbell\u{7}")),
        _ => {}
    }
    Ok(Outcome::ok("well"))
}

impl Drop for ChildCheck {
    fn drop(&mut self) {
        // Only after a check: the follower prepares and drops one as well, for every row.
        assert!(!self.was_asked.load(Ordering::SeqCst), "it failed when it was done");
    }
}

/// An error that cannot be shown.
#[derive(Debug)]
struct PanicsWhenRead;

impl std::error::Error for PanicsWhenRead {}

impl std::fmt::Display for PanicsWhenRead {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("it failed while it was read");
    }
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("it failed while it was dropped");
    }
}

fn nonsense() -> Outcome {
    let outcome = Outcome::failed("nonsense").with_metric("finite", 1.5).with_metric("nan", f64::NAN);
    let outcome = outcome.with_metric("infinite", f64::INFINITY).with_metric("", 1.0).with_metric("nul\0", 2.0);
    (0..1_000).fold(outcome, |outcome, number| outcome.with_metric(format!("z{number}"), 1.0))
}

/// Panics while it reads a row's config.
pub(super) struct PanicsInPrepare;

impl Monitor for PanicsInPrepare {
    fn manifest(&self) -> &Manifest {
        &PANICS_IN_PREPARE
    }

    fn prepare(&self, _config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        panic!("no config is good enough");
    }
}
