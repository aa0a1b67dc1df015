//! The layer of the configuration file: TOML, flattened into keys that know their lines.

use std::io::Read;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::fault::ConfigurationFault;
use super::keys;
use super::layers::{Entry, Layers, Source, Value};

/// A configuration is a page or two; what is longer was named by mistake.
const MOST_FILE_BYTES: u64 = 1024 * 1024;

/// Reads the file into the layers. `must_exist` where a person named it.
pub(super) fn read(
    name: &Path,
    path: &Path,
    must_exist: bool,
    layers: &mut Layers,
    faults: &mut Vec<ConfigurationFault>,
) {
    let text = match contents(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => return,
        Err(error) => return faults.push(unreadable(name, &error)),
    };
    let (table, errors) = DeTable::parse_recoverable(&text);
    let mut flattening = Flattening { file: name.to_owned(), text: &text, layers, faults };
    if errors.is_empty() {
        flattening.table("", table.get_ref());
    } else {
        flattening.broken(&errors);
    }
}

fn contents(path: &Path) -> std::io::Result<String> {
    let file = std::fs::File::open(path)?;
    let mut text = String::new();
    file.take(MOST_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST_FILE_BYTES {
        return Err(std::io::Error::other(format!("it is longer than {MOST_FILE_BYTES} bytes")));
    }
    Ok(text)
}

fn unreadable(name: &Path, error: &std::io::Error) -> ConfigurationFault {
    let (problem, hint) = match error.kind() {
        std::io::ErrorKind::NotFound => {
            ("there is no such file".to_owned(), "correct the path after `--config`, or leave the flag out")
        }
        std::io::ErrorKind::InvalidData => ("it is not UTF-8 text".to_owned(), "save it as UTF-8"),
        std::io::ErrorKind::PermissionDenied => (
            "it may not be read by the user that runs watchbell".to_owned(),
            "give that user or its group the right to read it",
        ),
        _ => (format!("it cannot be read: {error}"), "name a TOML file that this user may read"),
    };
    ConfigurationFault { key: None, source: Source::WholeFile(name.to_owned()), problem, hint: hint.to_owned() }
}

struct Flattening<'a> {
    file: PathBuf,
    text: &'a str,
    layers: &'a mut Layers,
    faults: &'a mut Vec<ConfigurationFault>,
}

impl Flattening<'_> {
    /// Only the parser's message and the line: its full text quotes the line, and with it perhaps a password.
    fn broken(&mut self, errors: &[toml::de::Error]) {
        let mut lines_told = Vec::new();
        for error in errors {
            let source = self.source(error.span().map_or(0, |span| span.start));
            // One slip often gives several errors on one line; the first says it best.
            if lines_told.contains(&source) {
                continue;
            }
            lines_told.push(source.clone());
            self.faults.push(ConfigurationFault {
                key: None,
                source,
                problem: format!("this is not TOML: {}", error.message().replace('\n', ", ")),
                hint: "a text stands in quotes, as in `key = \"text\"`, and a list in brackets, as in `[\"a\", \"b\"]`"
                    .to_owned(),
            });
        }
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key =
                if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
            let source = self.source(name.span().start);
            self.value(key, value.get_ref(), source);
        }
    }

    fn value(&mut self, key: String, value: &DeValue<'_>, source: Source) {
        if keys::is_table(&key) {
            return match value {
                DeValue::Table(table) if table.is_empty() && key.starts_with("connections.") => {
                    self.fault(&key, source, "the connection has no URL", "write `url = \"postgres://...\"` below it");
                }
                DeValue::Table(table) => self.table(&key, table),
                DeValue::String(_) if key.starts_with("connections.") => {
                    self.layers.put(format!("{key}.url"), Entry { value: Value::of_toml(value), source });
                }
                _ => self.not_a_table(&key, source),
            };
        }
        if keys::find(&key).is_some() {
            self.layers.put(key, Entry { value: Value::of_toml(value), source });
        } else {
            self.faults.push(unknown(&key, source, matches!(value, DeValue::Table(_))));
        }
    }

    fn not_a_table(&mut self, key: &str, source: Source) {
        let hint = match key.strip_prefix("connections.") {
            Some(name) => format!("write `{name} = \"postgres://...\"` below `[connections]`"),
            None => format!("write `[{key}]` on a line of its own, and its keys below"),
        };
        self.fault(key, source, "expected a table, found a value", &hint);
    }

    fn fault(&mut self, key: &str, source: Source, problem: &str, hint: &str) {
        let (problem, hint) = (problem.to_owned(), hint.to_owned());
        self.faults.push(ConfigurationFault { key: Some(key.to_owned()), source, problem, hint });
    }

    fn source(&self, offset: usize) -> Source {
        let before = self.text.get(..offset).unwrap_or(self.text);
        Source::File { path: self.file.clone(), line: before.matches('\n').count() + 1 }
    }
}

/// A key that nobody reads, or a whole table of such.
pub(super) fn unknown(key: &str, source: Source, is_table: bool) -> ConfigurationFault {
    let is_variable = matches!(source, Source::Variable(_));
    let nearest = if is_table { keys::nearest_table(key) } else { keys::nearest(key) };
    let hint = match nearest {
        _ if key == "config" => "name the file with the flag `--config`".to_owned(),
        _ if key.starts_with("connections.") => "a connection has `url` and `allow_own_database`".to_owned(),
        Some(near) if is_variable => format!("did you mean `{}`?", keys::variable_of(near)),
        Some(near) if is_table => format!("did you mean `[{near}]`?"),
        // `admins` below `[mail]` is `mail.admins` to TOML, and the person sees nothing wrong.
        Some(near) if !near.contains('.') && key.ends_with(&format!(".{near}")) => {
            format!("`{near}` belongs to the top of the file, above the first `[...]` line")
        }
        Some(near) => format!("did you mean `{near}`?"),
        None => "`docs/configuration.md` lists the keys".to_owned(),
    };
    let problem = if is_table { "there is no such table of keys" } else { "there is no such key" };
    ConfigurationFault { key: Some(key.to_owned()), source, problem: problem.to_owned(), hint }
}
