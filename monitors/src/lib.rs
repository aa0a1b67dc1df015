//! The child monitors that come with Watchbell: one file a kind, each listed once in [`all`].
//!
//! A kind checks one signal and returns one outcome. It must not write to a database, notify anybody, keep state
//! between checks or catch its own panics. Each file opens with its manifest, from which `watchbell kinds` and
//! `docs/kinds.md` are made.

mod authorities;
mod blocking;
pub mod command;
mod connect;
pub mod dns;
mod excerpt;
pub mod file;
pub mod host;
pub mod http;
mod settings;
pub mod sql;
pub mod tcp;
pub mod tls;
pub mod watchbell;

use std::sync::Arc;

use watchbell_contract::Monitor;

pub use settings::{Connection, Settings};

/// Every kind that comes with Watchbell, sorted by name.
pub fn all(settings: &Arc<Settings>) -> Vec<Box<dyn Monitor>> {
    vec![
        Box::new(command::Command::new(settings.clone())),
        Box::new(dns::Dns),
        Box::new(file::File),
        Box::new(host::Host),
        Box::new(http::Http),
        Box::new(sql::Sql::new(settings.clone())),
        Box::new(tcp::Tcp),
        Box::new(tls::Tls),
        Box::new(crate::watchbell::Watchbell::new(settings.clone())),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::{Settings, all};

    /// Files of `src/` that are no kinds: what several kinds share, and the list itself.
    const NOT_KINDS: [&str; 6] = ["authorities", "blocking", "connect", "excerpt", "lib", "settings"];

    #[test]
    fn every_file_is_registered_and_the_list_is_sorted() {
        let kinds: Vec<_> = all(&Arc::new(Settings::default())).iter().map(|kind| kind.manifest().kind).collect();
        assert!(kinds.is_sorted(), "{kinds:?}");
        let files: BTreeSet<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .filter(|stem| !NOT_KINDS.contains(&stem.as_str()))
            .collect();
        assert_eq!(files, kinds.iter().map(ToString::to_string).collect::<BTreeSet<_>>());
    }
}
