//! That nothing of a table is forgotten when a migration adds to it.

use std::collections::BTreeSet;

use super::tables::{INSTALLATION, TABLES};
use crate::store::database::query;
use crate::store::open::database;

#[tokio::test]
async fn every_table_and_column_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("w.db").display());
    let database = database(&url, true).await.unwrap();
    let tables = query(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 1) <> '_' AND name NOT LIKE 'sqlite%'",
    );
    let real: BTreeSet<String> = tables.texts(&database).await.unwrap().into_iter().collect();
    let all: Vec<_> = TABLES.iter().chain([&INSTALLATION]).collect();
    assert_eq!(real, all.iter().map(|table| table.name.to_owned()).collect());
    for table in all {
        let columns = query(format!("SELECT name FROM pragma_table_info('{}')", table.name));
        let real: BTreeSet<String> = columns.texts(&database).await.unwrap().into_iter().collect();
        let copied: BTreeSet<String> = table.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(real, copied, "{}", table.name);
        assert!(table.key.iter().all(|column| copied.contains(*column)), "{}", table.name);
        assert!(table.json.iter().all(|column| copied.contains(*column)), "{}", table.name);
    }
    database.close().await;
}
