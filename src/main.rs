//! Watchbell's binary: [`watchbell::run`] with the kinds that come with it. A binary of your own that adds kinds is
//! this file with a list that is not empty.

use std::process::ExitCode;

fn main() -> ExitCode {
    watchbell::run(Vec::new())
}
