//! `watchbell copy` between real databases: nothing is lost, nothing is doubled, whatever happens meanwhile.

mod broken_off;
mod goes_on;
mod refused;
mod sample;

use std::process::Output;

use crate::support::node::Node;
use crate::support::{mariadb::MariaDb, postgres::Postgres, sql};

/// Copies to the end; what was said on standard output.
#[track_caller]
fn copied(node: &Node, from: &str, to: &str) -> String {
    let output = copy(node, &["--from", from, "--to", to]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Copies in vain; what was said on standard error.
#[track_caller]
fn refused(node: &Node, from: &str, to: &str) -> String {
    let output = copy(node, &["--from", from, "--to", to]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
    said
}

fn copy(node: &Node, arguments: &[&str]) -> Output {
    node.watchbell([&["copy"], arguments].concat())
}

/// The URL of a file in the node's folder.
fn file(node: &Node, name: &str) -> String {
    format!("sqlite://{}", node.path(name).display())
}

/// The first column of the first row.
async fn one(url: &str, statement: &str) -> String {
    let rows = sql::rows(url, statement).await;
    rows[0][0].clone().unwrap_or_default()
}

/// An empty database on each of the servers.
async fn servers() -> [String; 2] {
    [Postgres::shared().await.fresh_database().await, MariaDb::shared().await.fresh_database().await]
}
