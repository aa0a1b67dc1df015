//! The database that is configured, as it is shown to people and reached by a client of theirs. No password leaves here.

use std::env;
use std::path::PathBuf;

use url::Url;

use crate::store::sqlite::database_path;

/// Where Watchbell's own tables are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DatabaseInUse {
    /// A file of SQLite.
    File(PathBuf),
    /// PostgreSQL.
    Postgres(Server),
    /// MySQL or MariaDB.
    MySql(Server),
}

/// A server, without the password that opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    url: Url,
    has_password: bool,
}

/// What sqlx calls otherwise than psql does.
const NAMES_FOR_PSQL: [(&str, &str); 5] = [
    ("ssl-mode", "sslmode"),
    ("ssl-root-cert", "sslrootcert"),
    ("ssl-ca", "sslrootcert"),
    ("ssl-cert", "sslcert"),
    ("ssl-key", "sslkey"),
];
/// What psql understands; it refuses a URL with anything else.
const KNOWN_TO_PSQL: [&str; 10] =
    ["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "hostaddr", "port", "user", "dbname", "options"];

/// Each talks to MySQL and to MariaDB. MySQL's own packages bring the second only, and MariaDB's newer ones only the first.
const CLIENTS_OF_MYSQL: [&str; 2] = ["mariadb", "mysql"];

impl DatabaseInUse {
    /// Of a URL whose references are resolved; `None` where it names no database.
    pub(super) fn of_url(url: &str) -> Option<Self> {
        match url.split(':').next() {
            Some("postgres" | "postgresql") => Server::read(url).map(Self::Postgres),
            Some("mysql" | "mariadb") => Server::read(url).map(Self::MySql),
            _ => database_path(url).ok().map(Self::File),
        }
    }

    /// Whether it is a file, which one node has for itself.
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Where it is.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::File(path) => std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string(),
            Self::Postgres(server) | Self::MySql(server) => server.shown(),
        }
    }

    /// A line for a shell that hands `statement` to the database, by a client that this machine has; the password, where
    /// there is one, is asked for.
    pub(super) fn client_line(&self, statement: &str) -> String {
        let folders = env::var_os("PATH").unwrap_or_default();
        self.client_line_with(statement, mysql_client(env::split_paths(&folders)))
    }

    fn client_line_with(&self, statement: &str, mysql_client: &str) -> String {
        let statement = in_double_quotes(statement);
        match self {
            Self::File(_) => format!("sqlite3 {} \\\n  {statement}", in_single_quotes(&self.shown())),
            Self::Postgres(server) => {
                format!("psql {} -c \\\n  {statement}", in_single_quotes(&server.for_psql()))
            }
            Self::MySql(server) => format!("{mysql_client} {} -e \\\n  {statement}", server.for_mysql().join(" ")),
        }
    }
}

impl Server {
    fn read(url: &str) -> Option<Self> {
        let mut url = Url::parse(url).ok()?;
        let has_password = url.password().is_some_and(|password| !password.is_empty())
            || url.query_pairs().any(|(name, _)| name == "password");
        url.set_password(None).ok();
        Some(Self { url, has_password })
    }

    fn parameter(&self, names: &[&str]) -> Option<String> {
        self.url.query_pairs().filter(|(name, _)| names.contains(&&**name)).last().map(|(_, value)| value.into_owned())
    }

    /// Without its parameters, except for the place of a socket.
    fn shown(&self) -> String {
        let mut shown = self.url.clone();
        shown.set_query(None);
        match self.parameter(&["host", "socket"]) {
            Some(place) => format!("{shown} (at {place})"),
            None => shown.to_string(),
        }
    }

    fn for_psql(&self) -> String {
        let rename = |name: &str| {
            NAMES_FOR_PSQL
                .iter()
                .find(|(ours, _)| *ours == name)
                .map_or_else(|| name.to_owned(), |(_, theirs)| (*theirs).to_owned())
        };
        let kept: Vec<(String, String)> = self
            .url
            .query_pairs()
            .map(|(name, value)| (rename(&name), value.into_owned()))
            .filter(|(name, _)| KNOWN_TO_PSQL.contains(&name.as_str()))
            .collect();
        let mut url = self.url.clone();
        url.set_query(None);
        // `+` for a space, which `query_pairs_mut` writes, is no space to psql.
        let kept: Vec<String> = kept.iter().map(|(name, value)| format!("{name}={}", percent_encoded(value))).collect();
        if !kept.is_empty() {
            url.set_query(Some(&kept.join("&")));
        }
        url.to_string()
    }

    fn for_mysql(&self) -> Vec<String> {
        let mut words = Vec::new();
        match self.parameter(&["socket"]) {
            Some(socket) => words.push(format!("--socket={}", in_single_quotes(&socket))),
            None => {
                words.push(format!("--host={}", self.url.host_str().unwrap_or("localhost")));
                words.extend(self.url.port().map(|port| format!("--port={port}")));
            }
        }
        let user = decoded(self.url.username());
        if !user.is_empty() {
            words.push(format!("--user={}", in_single_quotes(&user)));
        }
        if self.has_password {
            words.push("--password".to_owned());
        }
        if let Some(file) = self.parameter(&["ssl-ca", "sslca"]) {
            words.push(format!("--ssl-ca={}", in_single_quotes(&file)));
        }
        words.push(in_single_quotes(&decoded(self.url.path().trim_start_matches('/'))));
        words
    }
}

/// The first one that lies in one of these folders; where none does, the first of all.
fn mysql_client(folders: impl Iterator<Item = PathBuf>) -> &'static str {
    let folders: Vec<PathBuf> = folders.collect();
    let is_there = |client: &&str| folders.iter().any(|folder| folder.join(client).is_file());
    CLIENTS_OF_MYSQL.into_iter().find(is_there).unwrap_or(CLIENTS_OF_MYSQL[0])
}

fn decoded(text: &str) -> String {
    // A form's value is percent-encoded too, but for `+`, which is a plus sign here.
    url::form_urlencoded::parse(text.replace('+', "%2B").as_bytes()).map(|(name, _)| name.into_owned()).collect()
}

fn percent_encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20").replace("%2F", "/")
}

fn in_single_quotes(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn in_double_quotes(text: &str) -> String {
    let special = ['\\', '"', '$', '`'];
    let escaped: String =
        text.chars().flat_map(|c| special.contains(&c).then_some('\\').into_iter().chain([c])).collect();
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::{DatabaseInUse, mysql_client};

    fn lines(url: &str) -> (String, String) {
        let database = DatabaseInUse::of_url(url).unwrap();
        (database.shown(), database.client_line_with("SELECT '{\"a\": 1}'", "mariadb"))
    }

    #[test]
    fn a_server_is_shown_and_reached_without_its_password() {
        let (shown, line) = lines(
            "postgres://wb:hunt%40er2@db.example:5433/wb?pooler=transaction&ssl-mode=verify-full&options=-c%20search_path%3Dw",
        );
        assert_eq!(shown, "postgres://wb@db.example:5433/wb");
        assert_eq!(
            line,
            "psql 'postgres://wb@db.example:5433/wb?sslmode=verify-full&options=-c%20search_path%3Dw' -c \\\n  \
             \"SELECT '{\\\"a\\\": 1}'\""
        );
        let (shown, line) = lines("mysql://wb:hunter2@127.0.0.1:3307/wb?ssl-mode=VERIFY_IDENTITY&ssl-ca=/etc/ca.pem");
        assert_eq!(shown, "mysql://wb@127.0.0.1:3307/wb");
        assert!(
            line.starts_with(
                "mariadb --host=127.0.0.1 --port=3307 --user='wb' --password --ssl-ca='/etc/ca.pem' 'wb' -e \\\n"
            ),
            "{line}"
        );
    }

    #[test]
    fn sockets_and_files() {
        let (shown, line) = lines("postgres:///wb?host=/run/postgresql");
        assert_eq!(shown, "postgres:///wb (at /run/postgresql)");
        assert!(line.starts_with("psql 'postgres:///wb?host=/run/postgresql' -c"), "{line}");
        let (_, line) = lines("mysql://wb@localhost/wb?socket=/run/mysqld/mysqld.sock");
        assert!(line.starts_with("mariadb --socket='/run/mysqld/mysqld.sock' --user='wb' 'wb' -e"), "{line}");
        let (shown, line) = lines("sqlite:///srv/o'hara.db");
        assert_eq!(shown, "/srv/o'hara.db");
        assert!(line.starts_with(r"sqlite3 '/srv/o'\''hara.db' \"), "{line}");
    }

    #[test]
    fn the_client_is_one_that_this_machine_has() {
        let folders = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| folders.path().join(name));
        let found = || mysql_client([first.clone(), second.clone()].into_iter());
        std::fs::create_dir(&first).unwrap();
        std::fs::create_dir(&second).unwrap();
        assert_eq!(found(), "mariadb");
        std::fs::write(first.join("mysql"), "").unwrap();
        assert_eq!(found(), "mysql");
        std::fs::write(second.join("mariadb"), "").unwrap();
        assert_eq!(found(), "mariadb");
    }
}
