//! What every kind must hold, and what this one promises.

use std::time::Duration;

use queue_watchbell::QueueDepth;
use watchbell_contract::testing::{context, exercise};
use watchbell_contract::{ConfigReader, Monitor, Outcome};

async fn ask(folder: &std::path::Path, max: i64) -> anyhow::Result<Outcome> {
    let kind = QueueDepth;
    let config = [("folder".to_owned(), folder.to_str().unwrap().into()), ("max".to_owned(), max.into())];
    let config = config.into_iter().collect();
    let check = kind.prepare(ConfigReader::without_secrets(kind.manifest(), &config)).unwrap();
    check.check(&context(Duration::from_secs(5))).await
}

#[tokio::test]
async fn it_is_a_kind_as_the_contract_says() {
    exercise(&QueueDepth).await;
}

#[tokio::test]
async fn files_are_counted_and_folders_are_not() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    std::fs::create_dir(folder.path().join("inner")).unwrap();
    assert!(ask(folder.path(), 2).await.unwrap().is_ok);
    let outcome = ask(folder.path(), 1).await.unwrap();
    assert!(!outcome.is_ok && outcome.message.starts_with("2 files wait in "), "{outcome:?}");
    assert_eq!(outcome.metrics["waiting_files"], 2.0);
}

#[tokio::test]
async fn a_folder_that_is_missing_is_a_failure_that_says_so() {
    let error = ask(std::path::Path::new("/there/is/no/such/folder"), 1).await.unwrap_err();
    assert!(format!("{error:#}").contains("cannot read `/there/is/no/such/folder`: No such file"), "{error:#}");
}
