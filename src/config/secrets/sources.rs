//! Where the value of a reference is found.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use watchbell_contract::SecretReference;

use super::pass;

/// A secret is a password or a key; what is longer is another file, named by mistake.
pub(super) const MOST_BYTES: u64 = 64 * 1024;

/// So many different files are warned of; there is no use in more lines of the same kind.
const MOST_WARNINGS: usize = 100;

/// Systemd's variable for the folder of credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The environment in which references are resolved. Clones share it.
#[derive(Clone)]
pub struct SecretSources {
    environment: Arc<BTreeMap<String, String>>,
    /// Files that were already warned of.
    warned: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl SecretSources {
    /// References are resolved in this environment: `${env:...}`, systemd's `CREDENTIALS_DIRECTORY`, and for `pass`
    /// its `PATH`, `HOME`, `PASSWORD_STORE_DIR` and `GNUPGHOME`.
    pub fn new(environment: BTreeMap<String, String>) -> Self {
        Self { environment: Arc::new(environment), warned: Arc::default() }
    }

    /// The value of a reference, or why there is none, without any value. `folders`: a file must lie in one of these,
    /// once symlinks are followed.
    pub(super) async fn read(
        &self,
        reference: &SecretReference,
        folders: Option<Vec<PathBuf>>,
    ) -> Result<String, String> {
        let name = reference.name.clone();
        let value = match reference.scheme.as_str() {
            "env" => self.variable(&name),
            "file" => self.in_thread(move |sources| sources.file(Path::new(&name), folders.as_deref())).await,
            "credential" => self.in_thread(move |sources| sources.credential(&name)).await,
            "pass" => pass::show(&name, &self.environment).await,
            other => Err(format!("there is no scheme `{other}`; hint: write `env`, `file`, `credential` or `pass`")),
        }?;
        if value.is_empty() { Err("it is empty".to_owned()) } else { Ok(value) }
    }

    /// Reading a file may block, on a network file system for long.
    async fn in_thread(
        &self,
        read: impl FnOnce(Self) -> Result<String, String> + Send + 'static,
    ) -> Result<String, String> {
        let sources = self.clone();
        match tokio::task::spawn_blocking(move || read(sources)).await {
            Ok(read) => read,
            Err(_) => Err("reading it was broken off".to_owned()),
        }
    }

    fn variable(&self, name: &str) -> Result<String, String> {
        self.environment.get(name).cloned().ok_or_else(|| {
            "this variable is not set; hint: watchbell sees the environment it was started with, not that of your shell"
                .to_owned()
        })
    }

    fn credential(&self, name: &str) -> Result<String, String> {
        if name.contains('/') || name == "." || name == ".." {
            return Err("a credential's name has no `/`".to_owned());
        }
        let folder = self.environment.get(CREDENTIALS_DIRECTORY).ok_or_else(|| {
            format!(
                "systemd gave no credentials; hint: add `LoadCredential={name}:/path/of/the/file` to the unit of watchbell"
            )
        })?;
        contents(&Path::new(folder).join(name))
    }

    fn file(&self, path: &Path, folders: Option<&[PathBuf]>) -> Result<String, String> {
        if !path.is_absolute() {
            return Err("it is no absolute path; hint: begin it with `/`".to_owned());
        }
        let real = path.canonicalize().map_err(|error| reason(&error))?;
        let is_inside = |folder: &PathBuf| folder.canonicalize().is_ok_and(|folder| real.starts_with(folder));
        if folders.is_some_and(|folders| !folders.iter().any(is_inside)) {
            return Err("it is a symlink that leads out of the folder that `secrets.allow` names".to_owned());
        }
        let text = contents(&real)?;
        self.warn_if_readable_by_all(path, &real);
        Ok(text)
    }

    /// Only a warning: Docker and Kubernetes mount secrets readable by all of a container as a matter of course.
    fn warn_if_readable_by_all(&self, path: &Path, real: &Path) {
        if !is_readable_by_all(real) {
            return;
        }
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() < MOST_WARNINGS && warned.insert(path.to_owned()) {
            tracing::warn!(
                file = %path.display(),
                "a secret's file may be read by every user of this machine; `chmod o-r` keeps it to those who need it"
            );
        }
    }
}

#[cfg(unix)]
fn is_readable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn is_readable_by_all(_path: &Path) -> bool {
    false
}

/// The text of a regular file, without line ends at its end.
fn contents(path: &Path) -> Result<String, String> {
    // Asked before opening: to open a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(|error| reason(&error))?.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let file = std::fs::File::open(path).map_err(|error| reason(&error))?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| reason(&error))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("it is longer than {MOST_BYTES} bytes; hint: name the file that holds the secret alone"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "the user that runs watchbell may not read it".to_owned(),
        kind => format!("reading it failed: {kind}"),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use super::SecretSources;

    #[test]
    fn a_file_that_all_may_read_is_warned_of_once_and_used() {
        let folder = tempfile::tempdir().unwrap();
        let sources = SecretSources::new(BTreeMap::new());
        for (name, mode, warned) in [("own", 0o640, 0), ("open", 0o644, 1), ("open", 0o644, 1)] {
            let path = folder.path().join(name);
            std::fs::write(&path, "hunter2").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(sources.file(&path, None).unwrap(), "hunter2");
            assert_eq!(sources.warned.lock().unwrap().len(), warned, "{name}");
        }
    }
}
