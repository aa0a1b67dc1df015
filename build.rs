//! Rebuilds when a migration changes: the macro that embeds them does not tell cargo.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
