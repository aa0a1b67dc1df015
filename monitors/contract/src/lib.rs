//! What a monitor kind implements.
//!
//! A *kind* answers one question, "is X healthy?". It is a value that implements [`Monitor`]: it describes itself in
//! a [`Manifest`], and turns the JSON of a row's `config` column into a ready [`Check`]. One call of that check gives
//! one [`Outcome`]. That is all: schedules, states, escalation, messages to people and their delivery live in the
//! orchestrator, once.
//!
//! ```
//! use watchbell_contract::{async_trait, Check, CheckContext, ConfigFaults, ConfigReader, Example, Manifest, Monitor, Outcome, Parameter};
//!
//! struct Coin;
//!
//! static MANIFEST: Manifest = Manifest {
//!     kind: "coin",
//!     checks: "Whether a coin lies on the side that it should.",
//!     parameters: &[Parameter::required("side", "text", "`heads` or `tails`")],
//!     verdicts: "ok when `side` is `heads`, failed otherwise.",
//!     examples: &[Example { name: "The coin shows heads", schedule: "*/5 * * * *", config: r#"{"side": "heads"}"# }],
//!     limits: "It never throws the coin.",
//!     looks_at_this_machine: false,
//! };
//!
//! struct CoinCheck { side: String }
//!
//! impl Monitor for Coin {
//!     fn manifest(&self) -> &Manifest { &MANIFEST }
//!
//!     fn prepare(&self, mut config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
//!         let side = config.required_choice("side", &["heads", "tails"]);
//!         config.finish(CoinCheck { side })
//!     }
//! }
//!
//! #[async_trait]
//! impl Check for CoinCheck {
//!     async fn check(&self, _context: &CheckContext) -> anyhow::Result<Outcome> {
//!         if self.side == "heads" { Ok(Outcome::ok("heads")) } else { Ok(Outcome::failed("the coin shows tails")) }
//!     }
//! }
//! ```
//!
//! `testing::exercise` (feature `testing`) is the conformance test for any kind.
//!
//! A kind must not write to a database, notify anybody, keep state between checks, or catch its own panics: the
//! engine turns panics, time-outs and nonsense into failed outcomes, in one place.

mod config;
mod manifest;
mod monitor;
mod nearest;
mod outcome;
mod secret;
#[cfg(feature = "testing")]
pub mod testing;

pub use async_trait::async_trait;
pub use config::{ConfigFault, ConfigFaults, ConfigReader};
pub use manifest::{Example, Manifest, Parameter};
pub use monitor::{Check, CheckContext, Monitor};
pub use nearest::nearest;
pub use outcome::{Metrics, Outcome, Severity, UnknownSeverity};
pub use secret::{NoSecrets, Revealed, Secret, SecretError, SecretReference, Secrets};
