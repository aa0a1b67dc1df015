//! Watchbell with the kind `queue_depth`: everything else is as in the plain binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    watchbell::run(vec![Box::new(queue_watchbell::QueueDepth)])
}
