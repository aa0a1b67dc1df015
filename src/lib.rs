//! Watchbell: the database is the control plane. INSERT a row, get a monitor.
//!
//! Data flows one way: tick, row, check, transition, one UPDATE with what it owes, delivery, settling. A floor uses
//! only floors below it; `docs/architecture.md` names them.
//!
//! [`run`] is the whole program. A binary of your own that calls it with kinds of its own is a Watchbell with these
//! kinds:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     watchbell::run(vec![/* Box::new(MyKind) */])
//! }
//! ```

pub mod arenas;
pub mod channels;
mod cli;
pub mod config;
pub mod domain;
pub mod engine;
pub mod ports;
pub mod schedule;
pub mod store;

/// The command line: reads the arguments of this process, does what they ask, and says how the process is to end.
/// `extra_kinds` stand beside the kinds that come with Watchbell; a name that is taken is an error.
///
/// It makes the async runtime, so call it from a plain `main`. It prints to standard output and standard error.
pub fn run(extra_kinds: Vec<Box<dyn watchbell_contract::Monitor>>) -> std::process::ExitCode {
    arenas::bound();
    cli::run(extra_kinds)
}
