//! Each scheme, on folders and environments made for the test.

use std::os::unix::fs::symlink;
use std::path::Path;

use watchbell_contract::{SecretError, SecretReference, Secrets};

use super::{ConfiguredSecrets, SecretSources};

const PLANTED: &str = "hunter2";

fn reference(text: &str) -> SecretReference {
    let (scheme, name) = text.split_once(':').unwrap();
    SecretReference { scheme: scheme.to_owned(), name: name.to_owned() }
}

fn sources(environment: &[(&str, &str)]) -> SecretSources {
    SecretSources::new(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

fn any(environment: &[(&str, &str)]) -> ConfiguredSecrets {
    ConfiguredSecrets::for_configuration(sources(environment))
}

fn rows(allow: &[&str], environment: &[(&str, &str)]) -> ConfiguredSecrets {
    ConfiguredSecrets::for_rows(allow.iter().map(|pattern| pattern.parse().unwrap()).collect(), sources(environment))
}

async fn refusal(secrets: &ConfiguredSecrets, text: &str) -> String {
    let error = secrets.resolve(&reference(text)).await.unwrap_err().to_string();
    assert!(error.contains(text), "the reference is not named: {error}");
    assert!(!error.contains(PLANTED), "{error}");
    error
}

fn write(path: &Path, text: &str) -> String {
    std::fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_variable_is_read_from_the_environment() {
    let secrets = any(&[("TOKEN", PLANTED), ("EMPTY", "")]);
    assert_eq!(secrets.resolve(&reference("env:TOKEN")).await.unwrap(), PLANTED);
    assert!(refusal(&secrets, "env:NONE").await.contains("not set"));
    assert!(refusal(&secrets, "env:EMPTY").await.contains("empty"));
    assert!(!format!("{secrets:?}").contains(PLANTED));
}

#[tokio::test]
async fn a_file_is_read_without_its_last_line_end_and_within_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = any(&[]);
    for (text, value) in [("hunter2\n", PLANTED), ("hunter2\r\n", PLANTED), (" a\nb \n", " a\nb ")] {
        let path = write(&folder.path().join("token"), text);
        assert_eq!(secrets.resolve(&reference(&format!("file:{path}"))).await.unwrap(), value);
    }
    let long = write(&folder.path().join("long"), &"x".repeat(64 * 1024 + 1));
    assert!(refusal(&secrets, &format!("file:{long}")).await.contains("longer than 65536 bytes"));
    let most = write(&folder.path().join("most"), &"x".repeat(64 * 1024));
    assert!(secrets.resolve(&reference(&format!("file:{most}"))).await.is_ok());
    assert!(refusal(&secrets, &format!("file:{}", folder.path().display())).await.contains("no regular file"));
    assert!(refusal(&secrets, "file:token").await.contains("absolute"));
    assert!(refusal(&secrets, "file:/nowhere/at/all").await.contains("no such file"));
}

#[tokio::test]
async fn a_row_reads_no_file_outside_of_what_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let allowed = folder.path().join("secrets");
    std::fs::create_dir(&allowed).unwrap();
    let outside = folder.path().join("outside");
    write(&outside, PLANTED);
    write(&allowed.join("token"), PLANTED);
    symlink(&outside, allowed.join("out")).unwrap();
    // As Kubernetes mounts a secret: the file is a symlink to another name in the same folder.
    symlink("token", allowed.join("in")).unwrap();

    let allowed = allowed.to_str().unwrap();
    let secrets = rows(&[&format!("file:{allowed}/*")], &[]);
    for name in ["token", "in"] {
        assert_eq!(secrets.resolve(&reference(&format!("file:{allowed}/{name}"))).await.unwrap(), PLANTED);
    }
    assert!(refusal(&secrets, &format!("file:{allowed}/out")).await.contains("leads out"));
    for path in [format!("{allowed}/../outside"), outside.display().to_string(), format!("{allowed}/./token")] {
        let reference = reference(&format!("file:{path}"));
        assert!(matches!(secrets.permit(&reference), Err(SecretError::NotAllowed { .. })), "{path}");
        assert!(matches!(secrets.resolve(&reference).await, Err(SecretError::NotAllowed { .. })), "{path}");
    }
    let exact = rows(&[&format!("file:{allowed}/out")], &[]);
    assert!(refusal(&exact, &format!("file:{allowed}/out")).await.contains("leads out"));
}

#[tokio::test]
async fn a_row_uses_only_the_references_that_are_listed() {
    let environment = [("WATCHBELL_SECRET_A", PLANTED), ("HOME", "/root")];
    let secrets = rows(&["env:WATCHBELL_SECRET_*", "credential:*"], &environment);
    assert_eq!(secrets.resolve(&reference("env:WATCHBELL_SECRET_A")).await.unwrap(), PLANTED);
    assert!(secrets.permit(&reference("credential:smtp")).is_ok());
    for other in ["env:HOME", "env:WATCHBELL_DATABASE_URL", "file:/etc/passwd", "pass:bank"] {
        assert!(matches!(secrets.permit(&reference(other)), Err(SecretError::NotAllowed { .. })), "{other}");
        assert!(refusal(&secrets, other).await.contains("secrets.allow"));
    }
}

#[tokio::test]
async fn a_credential_is_read_from_the_folder_that_systemd_made() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("smtp"), "hunter2\n");
    let secrets = any(&[("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap())]);
    assert_eq!(secrets.resolve(&reference("credential:smtp")).await.unwrap(), PLANTED);
    assert!(refusal(&secrets, "credential:none").await.contains("no such file"));
    for name in ["credential:../smtp", "credential:..", "credential:a/b"] {
        assert!(refusal(&secrets, name).await.contains("no `/`"));
    }
    assert!(refusal(&any(&[]), "credential:smtp").await.contains("LoadCredential=smtp:"));
}

/// An environment in which `pass` is `testdata/pass`. It is no file that the test writes: to start a program that was
/// written a moment ago fails now and then ("text file busy") while other tests start theirs.
fn with_fake_pass() -> ConfiguredSecrets {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/secrets/testdata");
    any(&[("PATH", folder), ("WATCHBELL_SECRET_A", PLANTED)])
}

#[tokio::test]
async fn pass_gives_its_first_line() {
    let secrets = with_fake_pass();
    assert_eq!(secrets.resolve(&reference("pass:mail/ops")).await.unwrap(), PLANTED);
    assert_eq!(secrets.resolve(&reference("pass:a b; echo x")).await.unwrap(), PLANTED, "no shell reads the name");
    for (name, reason) in [
        ("pass:none", "not in the password store"),
        ("pass:locked", "locked"),
        ("pass:broken", "exit status: 3"),
        ("pass:mail", "folder"),
        ("pass:long", "more than 65536 bytes"),
        ("pass:-c", "begins with `-`"),
        ("pass:mail/../ops", "`..`"),
    ] {
        let refusal = refusal(&secrets, name).await;
        assert!(refusal.contains(reason), "{refusal}");
    }
    let nowhere = tempfile::tempdir().unwrap();
    let without = any(&[("PATH", nowhere.path().to_str().unwrap())]);
    assert!(refusal(&without, "pass:mail/ops").await.contains("not installed"));
}

#[tokio::test(start_paused = true)]
async fn pass_may_not_hang() {
    let secrets = with_fake_pass();
    assert!(refusal(&secrets, "pass:slow").await.contains("within 10 seconds"));
}
