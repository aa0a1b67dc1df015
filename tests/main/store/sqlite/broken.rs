//! Databases that cannot be used, or not now: each says so, loses nothing, and works again afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use watchbell::domain::State;
use watchbell::ports::{Applied, Store as _, StoreError, SystemClock, Work};
use watchbell::store::SqlStore;
use watchbell::store::sqlite::{FileLock, database_path};
use watchbell_contract::Outcome;

use super::super::bench::Bench;
use super::SqliteFile;

async fn open(path: &Path) -> Result<SqlStore, StoreError> {
    SqlStore::open(&format!("sqlite://{}", path.display()), Arc::new(SystemClock)).await
}

/// The text of an error that says that the database cannot be used as it is.
async fn unusable(path: &Path) -> String {
    match open(path).await {
        Err(error @ StoreError::Unusable { .. }) => {
            let text = error.to_string();
            assert!(text.contains(&path.display().to_string()), "it names the file: {text}");
            text
        }
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("{} was opened", path.display()),
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A database with one monitor, closed.
async fn with_one_monitor(path: &Path) {
    let store = open(path).await.unwrap();
    let new = watchbell::ports::NewMonitor {
        name: "one".to_owned(),
        kind: "test".to_owned(),
        schedule: "@hourly".to_owned(),
        ..Default::default()
    };
    store.add_monitor(&new).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_missing_folder_is_named() {
    let folder = folder();
    let text = unusable(&folder.path().join("missing/watchbell.db")).await;
    assert!(text.contains("folder must exist"), "{text}");
    assert!(!folder.path().join("missing").exists());
    let text = unusable(folder.path()).await;
    assert!(text.contains("unable to open"), "a folder is no file: {text}");
    for url in ["sqlite://", "sqlite://:memory:", "sqlite://?mode=rwc", ""] {
        let error = database_path(url).unwrap_err().to_string();
        assert!(error.contains("names no file"), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_alone() {
    let folder = folder();
    let path = folder.path().join("watchbell.db");
    let letter = "Dear Sir or Madam, this is a letter. ".repeat(100);
    fs::write(&path, &letter).unwrap();
    let text = unusable(&path).await;
    assert!(text.contains("not a database") && text.contains("move this one away"), "{text}");
    assert_eq!(fs::read_to_string(&path).unwrap(), letter);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_alone() {
    let folder = folder();
    let path = folder.path().join("watchbell.db");
    with_one_monitor(&path).await;
    let change = |sql: &'static str| {
        let url = format!("sqlite://{}", path.display());
        async move {
            let mut person = SqliteConnection::connect(&url).await.unwrap();
            sqlx::query(sql).execute(&mut person).await.unwrap();
            person.close().await.unwrap();
        }
    };
    change("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', 1, x'00', 1)").await;
    let text = unusable(&path).await;
    assert!(text.contains("newer version") && text.contains("9999"), "{text}");
    change("DELETE FROM _sqlx_migrations WHERE version = 9999").await;
    change("UPDATE _sqlx_migrations SET checksum = x'00'").await;
    let text = unusable(&path).await;
    assert!(text.contains("edited by hand"), "{text}");
}

#[tokio::test]
async fn an_interrupted_first_start_leaves_no_half_of_the_tables() {
    let folder = folder();
    let path = folder.path().join("watchbell.db");
    // A table of ours that is there already makes the step fail in the middle.
    let mut person = SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", path.display())).await.unwrap();
    sqlx::query("CREATE TABLE nodes (id INTEGER)").execute(&mut person).await.unwrap();
    let error = open(&path).await.err().unwrap().to_string();
    assert!(error.contains("nodes") && error.contains("already exists"), "{error}");
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE name LIKE 'mon%' OR name = 'incidents'")
            .fetch_all(&mut person)
            .await
            .unwrap();
    assert!(tables.is_empty(), "{tables:?}");
    sqlx::query("DROP TABLE nodes").execute(&mut person).await.unwrap();
    person.close().await.unwrap();
    open(&path).await.unwrap().close().await;
}

const ALONE: &str = "WATCHBELL_TEST_WITHOUT_PRIVILEGES";

/// Whether this process is the one that is to do the test: root may write what is read-only, so the test runs itself
/// again as a process that may not.
fn is_without_privileges(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("Debian's package util-linux is needed");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

#[tokio::test]
async fn a_read_only_file_or_folder_is_named() {
    if !is_without_privileges("store::sqlite::broken::a_read_only_file_or_folder_is_named") {
        return;
    }
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let folder = folder();
    let path = folder.path().join("watchbell.db");
    with_one_monitor(&path).await;
    mode(&path, 0o444);
    let text = unusable(&path).await;
    assert!(text.contains("`-wal` and `-shm`") && text.contains("writable by this user"), "{text}");
    mode(&path, 0o644);
    for beside in ["watchbell.db-wal", "watchbell.db-shm"].map(|name| folder.path().join(name)) {
        if beside.exists() {
            fs::remove_file(beside).unwrap();
        }
    }
    mode(folder.path(), 0o555);
    let text = unusable(&path).await;
    assert!(text.contains("writable by this user"), "{text}");
    let locked = FileLock::take(&format!("sqlite://{}", path.display())).unwrap_err().to_string();
    assert!(locked.contains("lock file cannot be opened"), "{locked}");
    let text = unusable(&folder.path().join("new.db")).await;
    assert!(text.contains("writable by this user"), "{text}");
    mode(folder.path(), 0o755);
    let store = open(&path).await.unwrap();
    assert_eq!(store.find_monitors("one").await.unwrap().len(), 1);
    store.close().await;
}

#[tokio::test]
async fn a_lock_that_is_held_for_long_is_waited_for_and_then_reported() {
    let bench = Bench::new::<SqliteFile>().await;
    let id = bench.insert_simple().await;
    bench.pass_minutes(1);
    let work = [Work::Run(Box::new(bench.tick(id, Outcome::failed("broken")).await))];
    let path = bench.database.describe();
    let mut person = SqliteConnection::connect(&format!("sqlite://{path}")).await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut person).await.unwrap();
    let (refused, opened) = tokio::join!(bench.try_apply(&work), open(Path::new(&path)),);
    let error = refused.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("end its open transaction"), "{error}");
    // Nothing is missing in this file, so a second program can open it meanwhile; it only cannot write.
    opened.unwrap().close().await;
    assert_eq!(bench.row(id).await.state, State::Ok, "reading goes on");
    sqlx::query("ROLLBACK").execute(&mut person).await.unwrap();
    let applied = bench.try_apply(&work).await.unwrap();
    assert!(matches!(applied[..], [Applied::Written { queued: 1, .. }]));
    bench.close().await;
}

#[tokio::test]
async fn one_node_serves_a_file() {
    let folder = folder();
    let url = format!("sqlite://{}", folder.path().join("watchbell.db").display());
    let first = FileLock::take(&url).unwrap();
    let second = FileLock::take(&url).unwrap_err();
    assert!(matches!(second, StoreError::Unusable { .. }));
    assert!(second.to_string().contains("another `watchbell serve` is running"), "{second}");
    drop(first);
    FileLock::take(&url).unwrap();
}
