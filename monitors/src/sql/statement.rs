//! The statement of a row: what is refused before it is sent, and where `:tick` and `:since` stand in it.
//!
//! The guard is the second lock. The first is the session, which is read-only on every database; the third is a role
//! that may only read, for which `doctor` looks. The guard is there for what a read-only session still lets through:
//! files of the server, other connections, locks, settings.

use chrono::{DateTime, Utc};

use super::connect::Dialect;
use super::tokens::{Kind, Refusal, Token, tokens};

/// The longest statement, in bytes: far more than a person writes into a row.
const LONGEST_STATEMENT: usize = 64 * 1024;

/// Words that begin a statement that only reads.
fn beginnings(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Sqlite => &["select", "with", "values", "explain"],
        Dialect::Postgres | Dialect::Mysql => &["select", "with", "values", "table", "show", "explain"],
    }
}

/// Keywords that stand in no statement that only reads, wherever they stand.
const WRITING_WORDS: [&str; 5] = ["insert", "update", "delete", "merge", "into"];

/// What `EXPLAIN` could be made to carry out.
const WORDS_AFTER_EXPLAIN: [&str; 6] = ["analyze", "analyse", "create", "declare", "execute", "refresh"];

/// Functions that reach files, other connections, locks or settings; a `*` at the end stands for any rest.
fn refused_functions(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Sqlite => &["load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"],
        Dialect::Postgres => &[
            "brin_*",
            "dblink*",
            "gin_clean_pending_list",
            "lo_*",
            "loread",
            "lowrite",
            "pg_advisory_*",
            "pg_backup_*",
            "pg_buffercache_evict*",
            "pg_cancel_backend",
            "pg_clear_*",
            "pg_copy_*",
            "pg_create_*",
            "pg_drop_*",
            "pg_export_snapshot",
            "pg_file_*",
            "pg_import_*",
            "pg_log_*",
            "pg_logfile_*",
            "pg_logical_*",
            "pg_ls_*",
            "pg_notify",
            "pg_promote",
            "pg_read_*",
            "pg_reload_conf",
            "pg_replication_*",
            "pg_restore_*",
            "pg_rotate_logfile*",
            "pg_set_*",
            "pg_start_backup",
            "pg_stat_file",
            "pg_stat_reset*",
            "pg_stat_statements_reset",
            "pg_stop_backup",
            "pg_switch_wal",
            "pg_sync_*",
            "pg_terminate_backend",
            "pg_try_advisory_*",
            "pg_wal_replay_pause",
            "pg_wal_replay_resume",
            // These run a statement that is handed over as text, past this guard.
            "connectby",
            "crosstab*",
            "query_to_xml*",
            "cursor_to_xml*",
            "ts_rewrite",
            "ts_stat",
            "xpath_table",
            "nextval",
            "setval",
            "set_config",
        ],
        Dialect::Mysql => &[
            "get_lock",
            "load_file",
            "nextval",
            "release_all_locks",
            "release_lock",
            "setval",
            "sys_eval",
            "sys_exec",
            "sys_get",
            "sys_set",
        ],
    }
}

/// A statement that may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// The text for the driver, with the database's own placeholders.
    pub(super) sql: String,
    /// What stands at each placeholder: `tick` or `since`.
    pub(super) parameters: Vec<Instant>,
}

/// An instant of the run that a statement may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instant {
    Tick,
    Since,
}

impl Instant {
    /// The instant itself, cut to milliseconds, as all databases write it.
    pub(super) fn of(self, context: &watchbell_contract::CheckContext) -> DateTime<Utc> {
        let instant = match self {
            Instant::Tick => context.tick,
            Instant::Since => context.since,
        };
        DateTime::from_timestamp_millis(instant.timestamp_millis()).unwrap_or(instant)
    }
}

impl Statement {
    /// Reads the statement of a row for a database. `other_schema` is a schema of the same server that it may not
    /// name.
    ///
    /// # Errors
    /// Everything that could write, attach, lock or reach files; more than one statement.
    pub(super) fn read(text: &str, dialect: Dialect, other_schema: Option<&str>) -> Result<Self, Refusal> {
        if text.len() > LONGEST_STATEMENT {
            return Err(Refusal(format!("the statement is longer than {LONGEST_STATEMENT} bytes")));
        }
        let mut all = tokens(text, dialect)?;
        let mut end = text.len();
        if let Some(at) = all.iter().position(|token| token.is_sign(";")) {
            if all[at..].iter().any(|token| !token.is_sign(";")) {
                return Err(Refusal("there is more than one statement; a check asks one".into()));
            }
            end = all[at].start;
            all.truncate(at);
        }
        guard(&all, dialect)?;
        if let Some(schema) = other_schema {
            refuse_schema(&all, schema)?;
        }
        Ok(Self::bound(&text[..end], &all, dialect))
    }

    /// Whether the window's begin decides what is found.
    pub(super) fn uses_since(&self) -> bool {
        self.parameters.contains(&Instant::Since)
    }

    fn bound(text: &str, tokens: &[Token<'_>], dialect: Dialect) -> Self {
        let mut sql = String::with_capacity(text.len() + 16);
        let mut parameters = Vec::new();
        let mut copied = 0;
        for token in tokens.iter().filter(|token| token.kind == Kind::Parameter) {
            let instant = if token.text == "tick" { Instant::Tick } else { Instant::Since };
            sql.push_str(&text[copied..token.start]);
            copied = token.end;
            if dialect == Dialect::Mysql {
                // Its placeholders have no numbers: one value each.
                parameters.push(instant);
                sql.push('?');
                continue;
            }
            let index = parameters.iter().position(|known| *known == instant).unwrap_or_else(|| {
                parameters.push(instant);
                parameters.len() - 1
            });
            sql.push_str(if dialect == Dialect::Postgres { "$" } else { "?" });
            sql.push_str(&(index + 1).to_string());
        }
        sql.push_str(&text[copied..]);
        Self { sql, parameters }
    }
}

fn guard(tokens: &[Token<'_>], dialect: Dialect) -> Result<(), Refusal> {
    // A statement in brackets begins where the brackets end.
    let Some(first) = tokens.iter().find(|token| !token.is_sign("(")) else {
        return Err(Refusal("the statement is empty".into()));
    };
    let allowed = beginnings(dialect);
    if first.kind != Kind::Word || !contains(allowed, first.text) {
        let pragma = first.text.eq_ignore_ascii_case("pragma");
        let hint = if pragma { "; write it as a table, for example `select * from pragma_quick_check`" } else { "" };
        return Err(Refusal(format!(
            "a statement that begins with `{}` is refused; one that only reads begins with {}{hint}",
            first.text.chars().take(40).collect::<String>(),
            allowed.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        )));
    }
    let explains = first.text.eq_ignore_ascii_case("explain");
    for (index, token) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| &tokens[before]);
        let is_called = tokens.get(index + 1).is_some_and(|next| next.is_sign("("));
        match token.kind {
            Kind::Word if before.is_none_or(|before| !before.is_sign(".")) => {
                refuse_word(token.text, is_called, before, explains)?;
            }
            _ => {}
        }
        if is_called && matches!(token.kind, Kind::Word | Kind::QuotedName) {
            refuse_function(token.text, dialect)?;
        }
    }
    Ok(())
}

fn refuse_word(word: &str, is_called: bool, before: Option<&Token<'_>>, explains: bool) -> Result<(), Refusal> {
    let after = |words: &[&str]| before.is_some_and(|token| token.kind == Kind::Word && contains(words, token.text));
    // MySQL has a function `insert(...)`, and every database a function `replace(...)`.
    let writes = contains(&WRITING_WORDS, word) && !(is_called && word.eq_ignore_ascii_case("insert"));
    let replaces = word.eq_ignore_ascii_case("replace") && !is_called;
    let locks = (word.eq_ignore_ascii_case("share") && after(&["for", "in", "key"]))
        || (word.eq_ignore_ascii_case("value") && after(&["next"]));
    if writes || replaces || locks || (explains && contains(&WORDS_AFTER_EXPLAIN, word)) {
        return Err(Refusal(format!(
            "the statement contains `{word}`, which could write or lock; put it in quotes if it is the name of a column"
        )));
    }
    Ok(())
}

fn refuse_function(name: &str, dialect: Dialect) -> Result<(), Refusal> {
    let name = name.to_ascii_lowercase();
    let refused = refused_functions(dialect).iter().any(|refused| match refused.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *refused,
    });
    if refused {
        return Err(Refusal(format!(
            "the function `{name}` is refused: it reaches files, other connections, locks or settings"
        )));
    }
    Ok(())
}

/// MySQL lets one connection read every schema of its server.
fn refuse_schema(tokens: &[Token<'_>], schema: &str) -> Result<(), Refusal> {
    let lists = tokens.first().is_some_and(|first| first.text.eq_ignore_ascii_case("show"));
    let is_named = tokens.iter().enumerate().any(|(index, token)| {
        matches!(token.kind, Kind::Word | Kind::QuotedName)
            && token.text.eq_ignore_ascii_case(schema)
            && (lists || tokens.get(index + 1).is_some_and(|next| next.is_sign(".")))
    });
    if is_named {
        return Err(Refusal(format!(
            "the statement names `{schema}`, which is Watchbell's own database; a connection that may ask it says `allow_own_database = true`"
        )));
    }
    Ok(())
}

fn contains(words: &[&str], word: &str) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Instant, Statement};

    const ALL: [Dialect; 3] = [Dialect::Sqlite, Dialect::Postgres, Dialect::Mysql];

    fn refused(sql: &str, dialect: Dialect) -> bool {
        Statement::read(sql, dialect, None).is_err()
    }

    #[test]
    fn each_instant_is_bound_not_spliced() {
        let sql = "select ':tick' where a > :since and b <= :tick and c > :since;";
        let read = |dialect| Statement::read(sql, dialect, None).unwrap();
        let sqlite = read(Dialect::Sqlite);
        assert_eq!(sqlite.sql, "select ':tick' where a > ?1 and b <= ?2 and c > ?1");
        assert_eq!(sqlite.parameters, [Instant::Since, Instant::Tick]);
        assert_eq!(read(Dialect::Postgres).sql, "select ':tick' where a > $1 and b <= $2 and c > $1");
        let mysql = read(Dialect::Mysql);
        assert_eq!(mysql.sql, "select ':tick' where a > ? and b <= ? and c > ?");
        assert_eq!(mysql.parameters, [Instant::Since, Instant::Tick, Instant::Since]);
    }

    #[test]
    fn statements_that_read_are_let_through() {
        for sql in [
            "select count(*) from t",
            "  -- why\n SELECT 1 ;; ",
            "(select 1) union (select 2)",
            "with x as (select 1) select * from x",
            "values (1)",
            "explain select 1",
            "select replace(a, 'x', 'y'), t.update, 'delete from t; drop table t' from t",
        ] {
            for dialect in ALL {
                assert_eq!(Statement::read(sql, dialect, None).err(), None, "{dialect:?}: {sql}");
            }
        }
        assert!(!refused("show server_version", Dialect::Postgres));
        assert!(!refused("show replica status", Dialect::Mysql));
        assert!(!refused("select insert('abc', 1, 1, 'x')", Dialect::Mysql));
        assert!(!refused("select lo_revenue, \"update\" from t", Dialect::Postgres));
    }

    #[test]
    fn what_could_write_or_attach_is_refused_on_every_database() {
        for sql in [
            "",
            ";",
            "-- nothing",
            "insert into t values (1)",
            "update t set a = 1",
            "delete from t",
            "create table t (a int)",
            "drop table t",
            "attach database 'x' as y",
            "pragma writable_schema = 1",
            "vacuum into 'x'",
            "copy t to program 'sh'",
            "set statement_timeout = 0",
            "call p()",
            "do $$ begin end $$",
            "begin",
            "commit",
            "load data infile 'x' into table t",
            "select 1; drop table t",
            "select * into t2 from t",
            "select 1 into outfile '/tmp/x'",
            "select 1 InTo dumpfile '/tmp/x'",
            "with x as (delete from t returning *) select * from x",
            "with x as (select 1) insert into t select * from x",
            "with x as (select 1) replace into t select * from x",
            "select * from t for update",
            "select * from t for share",
            "select * from t lock in share mode",
            "explain analyze select 1",
            "select next value for s",
        ] {
            for dialect in ALL {
                assert!(refused(sql, dialect), "{dialect:?}: {sql}");
            }
        }
    }

    #[test]
    fn functions_that_reach_out_are_refused_in_any_spelling() {
        for (sql, dialect) in [
            ("select load_extension('x')", Dialect::Sqlite),
            ("select [load_extension] ('x')", Dialect::Sqlite),
            ("select pg_read_file('/etc/passwd')", Dialect::Postgres),
            ("select pg_catalog.\"pg_read_file\" /* */ ('/etc/passwd')", Dialect::Postgres),
            ("select LO_EXPORT(1, 'x')", Dialect::Postgres),
            ("select * from dblink_exec('x', 'y')", Dialect::Postgres),
            ("select set_config('statement_timeout', '0', false)", Dialect::Postgres),
            ("select query_to_xml('delete from t', true, true, '')", Dialect::Postgres),
            ("select pg_terminate_backend(1)", Dialect::Postgres),
            ("select load_file('/etc/passwd')", Dialect::Mysql),
            ("select `get_lock` ('x', 1)", Dialect::Mysql),
        ] {
            assert!(refused(sql, dialect), "{dialect:?}: {sql}");
        }
    }

    #[test]
    fn another_schema_of_the_server_may_be_closed() {
        let read = |sql| Statement::read(sql, Dialect::Mysql, Some("watchbell"));
        assert!(read("select count(*) from `Watchbell`.monitors").is_err());
        assert!(read("select count(*) from watchbell . monitors").is_err());
        assert!(read("show tables from watchbell").is_err());
        assert!(read("select 'watchbell', watchbell from shop.orders").is_ok());
    }
}
