//! Whether the nodes agree on what must be the same everywhere, and on the time.

use super::super::installation::Installation;
use super::finding::Finding;
use crate::engine::settings_apart;

const ABOUT: &str = "nodes";

/// What live nodes are configured with, against what this command sees. Nothing where there are none: that is told
/// elsewhere.
pub(super) async fn examine(installation: &Installation) -> Vec<Finding> {
    let live = match installation.store.live_nodes().await {
        Ok(live) => live.nodes,
        Err(error) => return vec![Finding::problem(ABOUT, error.to_string(), "see the reason")],
    };
    let here = installation.shared_settings();
    let mut findings: Vec<Finding> = live
        .iter()
        .flat_map(|node| settings_apart(&here, &node.name, &node.settings))
        .map(|apart| {
            Finding::warning(
                ABOUT,
                format!("`{}` is `{}` here and `{}` on node `{}`", apart.key, apart.here, apart.there, apart.node),
                "it must be the same on all nodes: any of them may write the next message; mend the configuration, and \
                 restart that node",
            )
        })
        .collect();
    let mut names: Vec<&str> = live.iter().map(|node| node.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        findings.push(Finding::warning(
            ABOUT,
            format!("two nodes are named `{}`: `runs_on = 'name={}'` means both", pair[0], pair[0]),
            "set `node.name`; while a node is restarted this may be its predecessor for some seconds",
        ));
    }
    if findings.is_empty() && live.len() > 1 {
        findings.push(Finding::ok(ABOUT, format!("{} nodes agree on what must be the same", live.len())));
    }
    findings
}
