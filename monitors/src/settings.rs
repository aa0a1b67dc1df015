//! What the installation's configuration gives to the kinds.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use watchbell_contract::Secret;

/// The part of the configuration that kinds need. Rows cannot change it.
#[derive(Clone, Default)]
pub struct Settings {
    /// `connections.<name>`: the databases that the `sql` kind may ask.
    pub connections: BTreeMap<String, Connection>,
    /// `plugin_dirs`: where the `command` kind finds its programs, searched in this order.
    pub plugin_dirs: Vec<PathBuf>,
    /// `command.allow`: programs that run what their arguments name and may be used all the same.
    pub command_allow: Vec<String>,
    /// Watchbell's own database. The `sql` kind does not ask it unless a connection says
    /// `allow_own_database = true`.
    pub own_database_url: Option<String>,
}

/// Without `own_database_url`, which may hold a resolved password.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("connections", &self.connections)
            .field("plugin_dirs", &self.plugin_dirs)
            .field("command_allow", &self.command_allow)
            .finish_non_exhaustive()
    }
}

/// One database of `connections`.
#[derive(Debug, Clone)]
pub struct Connection {
    /// `sqlite://`, `postgres://` or `mysql://`; may hold any secret references.
    pub url: Secret,
    /// Whether this may be Watchbell's own database.
    pub allow_own_database: bool,
}
