//! Bounds the arenas of glibc's allocator, by starting this program once more with `MALLOC_ARENA_MAX` set.
//!
//! By default each thread gets an arena of its own, up to eight for each processor, and what one thread frees is not
//! used by the others: with 10,000 monitors a node took 73 MB in place of 47 MB, and was not faster. The bound can only
//! be set before the program starts (or by a call that safe Rust does not have), hence the second start. It keeps the
//! process id, and happens before anything is opened. A value that is set already stays.

use std::process::Command;

const VARIABLE: &str = "MALLOC_ARENA_MAX";
/// Measured with `benches/load.rs`: one arena saves some more, two leave room where checks compute.
const ARENAS: &str = "2";

/// Bounds the arenas. Call it first in `main`. Where it cannot be done the program goes on as it is.
pub fn bound() {
    if !cfg!(target_env = "gnu") || std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| program.clone().into_os_string());
    let mut again = Command::new(&program);
    again.args(arguments).env(VARIABLE, ARENAS);
    restart(again, &name);
}

#[cfg(unix)]
fn restart(mut again: Command, name: &std::ffi::OsStr) {
    use std::os::unix::process::CommandExt as _;

    // Returns only when it failed: then the program goes on with more memory than it needs.
    drop(again.arg0(name).exec());
}

#[cfg(not(unix))]
fn restart(_again: Command, _name: &std::ffi::OsStr) {}
