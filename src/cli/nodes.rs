//! `watchbell nodes`: who serves the database, who is gone, and how each does.

use clap::Args;
use serde_json::Value;

use super::FileFlag;
use super::answer::Answer;
use super::columns::{is_set, text, time};
use super::installation::Installation;
use super::table;
use crate::ports::Columns;

/// Checks that begin later than this are late for a person, in milliseconds.
const LATE_MS: i64 = 2_000;
/// Of the two seconds that are allowed by default, in milliseconds.
const SKEW_WORTH_A_WORD_MS: i64 = 1_000;
/// Columns that hold JSON.
const JSON: [&str; 3] = ["labels", "kinds", "settings"];

/// What follows `nodes`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: FileFlag,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// All nodes that the database knows: those that serve it now, and those that were lost within the last hour.
///
/// # Errors
/// When the database cannot be read.
pub(super) async fn nodes(arguments: &Arguments, installation: &Installation) -> anyhow::Result<Answer> {
    let mut nodes = installation.store.node_records().await?;
    nodes.iter_mut().for_each(read_json);
    if arguments.json {
        return Answer::of_json(&nodes);
    }
    Ok(Answer::of_text(rendered(&nodes, table::line_width())))
}

/// The JSON columns as what they hold, whatever the database gave.
fn read_json(node: &mut Columns) {
    for column in JSON {
        if let Some(Value::String(text)) = node.get(column) {
            let read = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()));
            node.insert(column.to_owned(), read);
        }
    }
}

fn rendered(nodes: &[Columns], width: usize) -> String {
    if nodes.is_empty() {
        return "no node serves this database; `watchbell serve` starts one\n".to_owned();
    }
    let heading = [
        "state",
        "name",
        "uuid",
        "version",
        "monitors",
        "late (p99)",
        "clock",
        "started (UTC)",
        "lease until (UTC)",
        "labels",
    ];
    let rows: Vec<Vec<String>> = nodes.iter().map(row).collect();
    let mut text = table::aligned(&heading, &rows, width);
    for hint in hints(nodes) {
        text.push_str(&format!("hint: {hint}\n"));
    }
    text
}

fn row(node: &Columns) -> Vec<String> {
    let uuid: String = text(node, "uuid").chars().take(8).collect();
    let late = number(node, "lateness_p99_ms").map_or_else(|| "-".to_owned(), |late| format!("{late} ms"));
    let skew = number(node, "clock_skew_ms").unwrap_or_default();
    vec![
        state(node).to_owned(),
        text(node, "name"),
        uuid,
        text(node, "version"),
        text(node, "monitor_count"),
        late,
        format!("{skew:+} ms"),
        time(node, "started_at"),
        time(node, "lease_until"),
        labels(node),
    ]
}

fn state(node: &Columns) -> &'static str {
    match (is_set(node, "is_alive"), node.get("kinds")) {
        (false, _) => "gone",
        (true, Some(Value::Null)) => "stopping",
        (true, _) => "alive",
    }
}

fn labels(node: &Columns) -> String {
    let Some(Value::Object(labels)) = node.get("labels") else { return String::new() };
    let pair = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
    labels.iter().map(pair).collect::<Vec<_>>().join(", ")
}

fn hints(nodes: &[Columns]) -> Vec<String> {
    let mut hints = Vec::new();
    for node in nodes {
        let name = text(node, "name");
        if !is_set(node, "is_alive") {
            hints.push(format!(
                "`{name}` is gone without a word: it was killed, lost the database, or its clock is wrong; its log says \
                 which. Others have its monitors"
            ));
            continue;
        }
        if number(node, "lateness_p99_ms").is_some_and(|late| late > LATE_MS) {
            hints.push(format!("checks of `{name}` begin late: give it more processors, or start another node"));
        }
        if number(node, "clock_skew_ms").is_some_and(|skew| skew.abs() >= SKEW_WORTH_A_WORD_MS) {
            hints.push(format!("the clock of `{name}` differs from the database's: let NTP set both"));
        }
    }
    let mut versions: Vec<String> =
        nodes.iter().filter(|node| is_set(node, "is_alive")).map(|node| text(node, "version")).collect();
    versions.sort();
    versions.dedup();
    if versions.len() > 1 {
        hints.push(format!(
            "nodes of several versions run beside each other ({}): finish the upgrade",
            versions.join(", ")
        ));
    }
    hints
}

fn number(node: &Columns, column: &str) -> Option<i64> {
    node.get(column).and_then(Value::as_i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{hints, read_json, rendered};
    use crate::ports::Columns;

    fn node(changes: serde_json::Value) -> Columns {
        let mut node: Columns = serde_json::from_value(json!({
            "uuid": "0f3b1c2d-aaaa", "name": "alpha", "version": "0.1.0", "is_alive": 1, "monitor_count": 40,
            "lateness_p99_ms": 12, "clock_skew_ms": -3, "started_at": "2026-11-22T10:00:00.000Z",
            "lease_until": "2026-11-22T11:00:08.000Z", "labels": "{\"zone\": \"eu\"}", "kinds": "[\"http\"]",
        }))
        .unwrap();
        let changes: Columns = serde_json::from_value(changes).unwrap();
        node.extend(changes);
        read_json(&mut node);
        node
    }

    #[test]
    fn a_line_tells_how_a_node_does() {
        let nodes = [node(json!({})), node(json!({"name": "beta", "kinds": "null", "lateness_p99_ms": null}))];
        let expected = "\
state     name   uuid      version  monitors  late (p99)  clock  started (UTC)        lease until (UTC)    labels
alive     alpha  0f3b1c2d  0.1.0    40        12 ms       -3 ms  2026-11-22 10:00:00  2026-11-22 11:00:08  zone=eu
stopping  beta   0f3b1c2d  0.1.0    40        -           -3 ms  2026-11-22 10:00:00  2026-11-22 11:00:08  zone=eu
";
        assert_eq!(rendered(&nodes, 200), expected);
        assert!(rendered(&[], 80).starts_with("no node serves"));
    }

    #[test]
    fn what_needs_a_person_has_a_hint() {
        assert!(hints(&[node(json!({}))]).is_empty());
        for (changes, word) in [
            (json!({"is_alive": 0}), "gone without a word"),
            (json!({"lateness_p99_ms": 2_001}), "begin late"),
            (json!({"clock_skew_ms": -1_500}), "NTP"),
        ] {
            let said = hints(&[node(changes)]);
            assert!(said.len() == 1 && said[0].contains(word), "{said:?}");
        }
        let said = hints(&[node(json!({})), node(json!({"version": "0.2.0"}))]);
        assert!(said[0].contains("0.1.0, 0.2.0"), "{said:?}");
    }
}
