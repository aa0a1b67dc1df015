//! The documents against the thing itself: what they say of tables, what they tell people to paste, where they lead,
//! and the tests that they name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, SqliteConnection};
use watchbell::ports::{Store, SystemClock};
use watchbell::store::SqlStore;

use crate::support::mariadb::MariaDb;
use crate::support::postgres::Postgres;
use crate::support::sql;

/// A column as `docs/schema.md` writes it: type, default.
type Columns = Vec<(String, String, String)>;

#[tokio::test]
async fn the_documented_schema_is_the_real_one() {
    let (mut database, _folder) = fresh_database().await;
    let documented = documented_tables();
    let mut real = BTreeMap::new();
    let sql = "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') \
        AND name NOT LIKE 'sqlite%' AND name NOT LIKE '\\_%' ESCAPE '\\'";
    for row in sqlx::query(sql).fetch_all(&mut database).await.unwrap() {
        let (name, kind): (String, String) = (row.get(0), row.get(1));
        let columns = real_columns(&mut database, &name, kind == "view").await;
        real.insert(name, columns);
    }
    assert_eq!(documented.keys().collect::<Vec<_>>(), real.keys().collect::<Vec<_>>(), "tables and views");
    for (table, columns) in &real {
        assert_eq!(&documented[table], columns, "`{table}` in docs/schema.md, and as it is");
    }
    database.close().await.unwrap();
}

/// Names and types of the columns, on the databases whose catalogue tells them in the same words.
#[tokio::test]
async fn the_documented_columns_are_those_of_all_databases() {
    let (postgres, mariadb) = (Postgres::shared().await.fresh_database(), MariaDb::shared().await.fresh_database());
    for url in [postgres.await, mariadb.await] {
        SqlStore::open(&url, Arc::new(SystemClock)).await.unwrap().close().await;
        let is_postgres = url.starts_with("postgres");
        let schema = if is_postgres { "current_schema()" } else { "database()" };
        for (table, documented) in documented_tables() {
            let rows = sql::rows(
                &url,
                &format!(
                    "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = {schema} \
                     AND table_name = '{table}' AND coalesce(generation_expression, '') = ''"
                ),
            )
            .await;
            let text = |cell: &Option<String>| cell.clone().unwrap();
            let real: BTreeMap<String, String> = rows.iter().map(|row| (text(&row[0]), text(&row[1]))).collect();
            let names: BTreeSet<&String> = documented.iter().map(|(name, ..)| name).collect();
            assert_eq!(names, real.keys().collect(), "`{table}` in docs/schema.md, and in {url}");
            for (name, kind, _) in &documented {
                let types: &[&str] = match (kind.as_str(), is_postgres) {
                    ("INTEGER", _) => &["bigint", "integer", "smallint", "int"],
                    ("TEXT", true) => &["text", "jsonb", "timestamp with time zone"],
                    ("TEXT", false) => &["varchar", "longtext", "json", "datetime"],
                    _ => continue,
                };
                assert!(types.contains(&real[name].as_str()), "{table}.{name} is {} in {url}", real[name]);
            }
        }
    }
}

/// What the page says of now and of fields of JSON works as it stands there.
#[tokio::test]
async fn the_documented_words_of_each_database_work() {
    let text = read("docs/schema.md");
    let (postgres, mariadb) = (Postgres::shared().await.fresh_database(), MariaDb::shared().await.fresh_database());
    let (postgres, mariadb) = (postgres.await, mariadb.await);
    let now = section_of(&text, "## Times").lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let mut words: Vec<(&str, String)> = Vec::new();
    for line in now {
        let url = if line.starts_with("| PostgreSQL") { &postgres } else { &mariadb };
        if !line.starts_with("| SQLite") {
            words.extend(code(line).into_iter().map(|word| (url.as_str(), word)));
        }
    }
    for line in section_of(&text, "## Queries").lines().filter(|line| line.starts_with("| a")) {
        let cells = cells(line);
        words.push((&postgres, code(cells[2])[0].clone()));
        words.push((&mariadb, code(cells[3])[0].clone()));
    }
    assert_eq!(words.len(), 8, "{words:?}");
    for (url, word) in words {
        let metrics = if url == postgres { "'{\"response_ms\": 3}'::jsonb" } else { "'{\"response_ms\": 3}'" };
        let rows = sql::rows(url, &format!("SELECT {word} AS word FROM (SELECT {metrics} AS metrics) AS sample")).await;
        let word_of = rows[0][0].as_deref().unwrap();
        assert!(
            if word.contains("response_ms") { word_of == "3" } else { word_of.starts_with("20") },
            "{word}: {rows:?}"
        );
    }
}

#[tokio::test]
async fn every_constraint_trigger_and_index_is_documented() {
    let (mut database, _folder) = fresh_database().await;
    let text = read("docs/schema.md");
    let mut real = BTreeSet::new();
    let sql = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%' AND name NOT LIKE '\\_%' ESCAPE '\\'";
    for row in sqlx::query(sql).fetch_all(&mut database).await.unwrap() {
        let (name, sql): (String, String) = (row.get(0), row.get(1));
        real.insert(name);
        let constraints = sql.split("CONSTRAINT ").skip(1).filter_map(|rest| rest.split_whitespace().next());
        real.extend(constraints.map(str::to_owned));
    }
    let missing: Vec<&String> = real.iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/schema.md does not name {missing:?}");
    for section in ["## Constraints", "## Triggers", "## Indexes"] {
        let rows = section_of(&text, section);
        let named = rows.lines().filter(|line| line.starts_with("| `")).flat_map(|line| code(cells(line)[0]));
        let gone: Vec<String> = named.filter(|name| !real.contains(name)).collect();
        assert!(gone.is_empty(), "{section} in docs/schema.md names {gone:?}, which do not exist");
    }
    database.close().await.unwrap();
}

/// Every block marked as `sql`, and every statement in a table of the runbook.
#[tokio::test]
async fn every_statement_in_the_documents_works() {
    let mut statements = 0;
    for document in documents() {
        let text = read(&document);
        // Where a page says who runs a block, it is for a server: `databases_docs` runs it there.
        let parts: Vec<&str> = text.split("```sql\n").collect();
        let blocks = parts.windows(2).filter(|two| !two[0].trim_end().ends_with("-->"));
        let blocks = blocks.filter_map(|two| two[1].split("```").next());
        let in_cells = text.lines().filter(|line| line.starts_with('|')).flat_map(code);
        let in_cells = in_cells.filter(|code| code.ends_with(';'));
        for statement in blocks.map(str::to_owned).chain(in_cells) {
            let (mut database, _folder) = fresh_database().await;
            for sql in [SAMPLES, &statement] {
                let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut database).await;
                done.unwrap_or_else(|error| panic!("{document}: {error}\n{sql}"));
            }
            database.close().await.unwrap();
            statements += 1;
        }
    }
    assert!(statements > 30, "only {statements} statements were found");
}

const SAMPLES: &str = "\
    INSERT INTO monitors (id, name, kind, schedule, people_to_notify) \
      VALUES (1, 'Sample', 'tcp', '* * * * *', '[\"ops@example.com\"]');
    INSERT INTO incidents (id, monitor_id, monitor_name, opened_at, opening_message) \
      VALUES (1, 1, 'Sample', datetime('now'), 'it is down');
    INSERT INTO notifications (id, monitor_id, incident_id, type, severity, recipient, subject, body, status) \
      VALUES (17, 1, 1, 'alert', 'critical', 'ops@example.com', 's', 'b', 'failed');
    INSERT INTO monitor_runs (monitor_id, cause, tick_at, started_at, duration_ms, is_ok, message, metrics, \
      state_before, state_after, node) VALUES (1, 'schedule', strftime('%Y-%m-%dT%H:%M:00.000Z', 'now'), \
      strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), 3, 0, 'm', '{\"response_ms\": 3}', 'ok', 'alert', 'n')";

#[test]
fn links_lead_somewhere() {
    for document in documents() {
        let text = read(&document);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            if file.contains("://") {
                continue;
            }
            let folder = root().join(&document).parent().unwrap().to_owned();
            let path = if file.is_empty() { root().join(&document) } else { folder.join(file) };
            assert!(path.exists(), "{document} leads to `{target}`, which does not exist");
            if !anchor.is_empty() {
                let anchors = anchors(&std::fs::read_to_string(&path).unwrap());
                assert!(anchors.contains(anchor), "{document} leads to `{target}`, a heading that does not exist");
            }
        }
    }
}

#[test]
fn each_decision_has_a_number_of_its_own_and_is_listed() {
    let list = read("docs/adr/README.md");
    let decisions: Vec<String> = documents()
        .into_iter()
        .filter_map(|path| path.strip_prefix("docs/adr/0").map(|rest| format!("0{rest}")))
        .collect();
    for decision in &decisions {
        let number = &decision[..4];
        assert!(list.contains(&format!("| [{number}]({decision}) |")), "docs/adr/README.md does not list `{decision}`");
        assert!(read(&format!("docs/adr/{decision}")).starts_with(&format!("# {}. ", number.trim_start_matches('0'))));
        assert_eq!(decisions.iter().filter(|other| other.starts_with(number)).count(), 1, "two decisions {number}");
    }
    assert!(decisions.len() > 10, "{decisions:?}");
}

/// Below each invariant stands `Held by:` with names of tests: functions, or scripts of `tests/main/scenarios`.
#[test]
fn every_invariant_names_tests_that_exist() {
    let mut sources = String::new();
    for folder in ["src", "monitors", "tests"] {
        collect(&root().join(folder), &mut sources);
    }
    let text = read("docs/architecture.md");
    let invariants = section_of(&text, "## Invariants");
    let held = invariants.matches("Held by:").count();
    let numbered = invariants.lines().filter(|line| line.starts_with("**")).count();
    assert_eq!(held, numbered, "each invariant says what holds it");
    assert!(numbered >= 16, "only {numbered} invariants were found");
    for paragraph in invariants.split("Held by:").skip(1) {
        let names = code(paragraph.split("\n\n").next().unwrap());
        assert!(!names.is_empty(), "an invariant that nothing holds: {paragraph}");
        for name in names {
            let is_function = sources.contains(&format!("fn {name}(")) || sources.contains(&format!("fn {name}<"));
            let is_script = root().join(format!("tests/main/scenarios/{name}.txt")).exists();
            assert!(is_function || is_script, "docs/architecture.md names the test `{name}`, which does not exist");
        }
    }
}

#[test]
fn the_readme_names_every_kind_as_it_describes_itself() {
    let text = read("README.md");
    let table: Vec<&str> = section_of(&text, "## Kinds").lines().filter(|line| line.starts_with("| `")).collect();
    let kinds = watchbell_monitors::all(&Arc::default());
    let expected: Vec<String> =
        kinds.iter().map(|kind| format!("| `{}` | {} |", kind.manifest().kind, kind.manifest().checks)).collect();
    assert_eq!(table, expected);
}

#[test]
fn the_readme_and_the_page_of_delivery_name_every_channel() {
    for document in ["README.md", "docs/delivery.md"] {
        let text = read(document);
        for channel_type in watchbell::channels::all() {
            let name = channel_type.name;
            assert!(text.contains(&format!("channels.md#{name})")), "{document} does not lead to `{name}`");
        }
    }
}

async fn fresh_database() -> (SqliteConnection, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watchbell.db");
    let store = SqlStore::open(&format!("sqlite://{}", path.display()), Arc::new(SystemClock)).await.unwrap();
    store.close().await;
    (SqliteConnectOptions::new().filename(&path).connect().await.unwrap(), folder)
}

async fn real_columns(database: &mut SqliteConnection, table: &str, is_view: bool) -> Columns {
    let sql = "SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info(?1)";
    let rows = sqlx::query(sql).bind(table).fetch_all(database).await.unwrap();
    rows.iter()
        .map(|row| {
            let name: String = row.get(0);
            if is_view {
                return (name, String::new(), String::new());
            }
            let (is_required, default): (bool, Option<String>) = (row.get(2), row.get(3));
            let default = match default.as_deref() {
                // A number that is the key. Of a key of several columns each must be given.
                _ if row.get::<i64, _>(4) == 1 && !is_required => "by the database".to_owned(),
                None if is_required => "required".to_owned(),
                None => "NULL".to_owned(),
                Some(text) if text.starts_with('\'') => format!("`{}`", text.trim_matches('\'')),
                Some(text) if text.contains("randomblob") => "by the database".to_owned(),
                Some(text) if text.contains("'now'") => "now".to_owned(),
                Some(_) if matches!(name.as_str(), "revision" | "recheck_seq") => "by trigger".to_owned(),
                Some(number) => number.to_owned(),
            };
            (name, row.get(1), default)
        })
        .collect()
}

/// The columns of each section whose heading is a name; a line may name several columns of a view.
fn documented_tables() -> BTreeMap<String, Columns> {
    let text = read("docs/schema.md");
    let mut tables = BTreeMap::new();
    for section in text.split("\n## `").skip(1) {
        let name = section.split('`').next().unwrap().to_owned();
        let section = section.split("\n## ").next().unwrap();
        let mut columns = Columns::new();
        for line in section.lines().filter(|line| line.starts_with("| `")) {
            let cells = cells(line);
            for column in code(cells[0]) {
                let (kind, default) = if cells.len() > 2 { (first_word(cells[1]), cells[2]) } else { ("", "") };
                columns.push((column, kind.to_owned(), default.to_owned()));
            }
        }
        tables.insert(name, columns);
    }
    tables
}

fn first_word(cell: &str) -> &str {
    cell.split(',').next().unwrap_or_default()
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split(" | ").map(str::trim).collect()
}

/// What stands between backticks.
fn code(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// From a heading to the next one of its level.
fn section_of<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no section `{heading}`"));
    rest.split("\n## ").next().unwrap()
}

/// The anchors of a page's headings, as GitHub makes them, and those that it names itself.
fn anchors(text: &str) -> BTreeSet<String> {
    let kept = |character: &char| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_');
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let titles = headings.map(|line| line.trim_start_matches('#').trim());
    let titles = titles.map(|title| title.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-"));
    let named = text.split("<a id=\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned);
    titles.chain(named).collect()
}

fn collect(folder: &Path, sources: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// All pages for people, by their paths.
fn documents() -> Vec<String> {
    let mut documents = Vec::new();
    for folder in ["", "docs/", "docs/adr/", "migrations/"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                documents.push(format!("{folder}{name}"));
            }
        }
    }
    documents.sort();
    documents
}

fn read(document: &str) -> String {
    let path = root().join(document);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{document}: {error}"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
