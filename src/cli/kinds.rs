//! `watchbell kinds`: what can be checked, and how a row says so.

use clap::Args;
use serde_json::{Value, json};
use watchbell_contract::{Example, Manifest, Monitor, nearest};

use super::FileFlag;
use super::answer::{Answer, Trouble};
use super::sql_text::{Dialect, insert};
use super::table;
use crate::config::Configuration;
use crate::engine::Kinds;

/// Whom the examples tell.
const EXAMPLE_RECIPIENTS: &str = r#"["ops@example.com"]"#;

/// What follows `kinds`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: FileFlag,
    /// One kind, with its parameters and an example INSERT; without it, all kinds
    kind: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// All kinds, or one whole.
///
/// # Errors
/// When there is no such kind.
pub(super) async fn kinds(
    arguments: &Arguments,
    configuration: &Configuration,
    extra_kinds: Vec<Box<dyn Monitor>>,
) -> anyhow::Result<Answer> {
    // Manifests depend on no setting, so no secret needs to be resolved for them.
    let mut all = watchbell_monitors::all(&std::sync::Arc::default());
    all.extend(extra_kinds);
    let kinds = Kinds::new(all, configuration.row_secrets.clone())?;
    let dialect = Dialect::of_configuration(configuration).await;
    let Some(name) = &arguments.kind else {
        let manifests: Vec<&Manifest> = kinds.manifests().collect();
        return match arguments.json {
            true => Answer::of_json(&manifests.iter().map(|kind| as_json(kind, dialect)).collect::<Vec<_>>()),
            false => Ok(Answer::of_text(overview(&manifests))),
        };
    };
    let Some(manifest) = kinds.manifest(name) else { return Err(unknown(name, &kinds).into()) };
    match arguments.json {
        true => Answer::of_json(&as_json(manifest, dialect)),
        false => Ok(Answer::of_text(whole(manifest, dialect))),
    }
}

/// An error for a kind that nobody knows, with a near name or all of them.
pub(super) fn unknown(name: &str, kinds: &Kinds) -> Trouble {
    let names: Vec<&str> = kinds.manifests().map(|manifest| manifest.kind).collect();
    let trouble = Trouble::usage(format!("there is no kind `{name}`"));
    match nearest(name, names.iter().copied()) {
        Some(near) => trouble.hint(format!("did you mean `{near}`?")),
        None => trouble.hint(format!("there are {}", names.join(", "))),
    }
}

fn overview(manifests: &[&Manifest]) -> String {
    let rows: Vec<Vec<String>> =
        manifests.iter().map(|manifest| vec![manifest.kind.to_owned(), manifest.checks.to_owned()]).collect();
    let table = table::aligned(&["kind", "checks"], &rows, table::line_width());
    format!("{table}\n`watchbell kinds KIND` shows its parameters and an INSERT to paste.\n")
}

fn whole(manifest: &Manifest, dialect: Dialect) -> String {
    let mut text = format!("{}: {}\n\nParameters of `config`:\n", manifest.kind, manifest.checks);
    for parameter in manifest.parameters {
        let default = parameter.default.map_or("required".to_owned(), |default| format!("default: {default}"));
        let secret =
            if parameter.is_secret { "; may hold secret references such as ${env:WATCHBELL_SECRET_X}" } else { "" };
        text.push_str(&format!(
            "  {} ({}; {default}{secret})\n      {}\n",
            parameter.name, parameter.shape, parameter.meaning
        ));
    }
    if manifest.parameters.is_empty() {
        text.push_str("  none\n");
    }
    text.push_str(&format!("\nVerdicts: {}\n\nLimits: {}\n", manifest.verdicts, manifest.limits));
    if manifest.looks_at_this_machine {
        text.push_str("\nThe answer depends on the machine that asks.\n");
    }
    for example in manifest.examples {
        text.push_str(&format!("\n{}\n", example_insert(manifest, example, dialect)));
    }
    text
}

fn example_insert(manifest: &Manifest, example: &Example, dialect: Dialect) -> String {
    insert(
        dialect,
        &[
            ("name", Some(example.name)),
            ("kind", Some(manifest.kind)),
            ("schedule", Some(example.schedule)),
            ("config", Some(example.config)),
            ("people_to_notify", Some(EXAMPLE_RECIPIENTS)),
        ],
    )
}

fn as_json(manifest: &Manifest, dialect: Dialect) -> Value {
    let parameters = manifest.parameters.iter().map(|parameter| {
        json!({
            "name": parameter.name,
            "shape": parameter.shape,
            "is_required": parameter.default.is_none(),
            "default": parameter.default,
            "meaning": parameter.meaning,
            "is_secret": parameter.is_secret,
        })
    });
    let examples = manifest.examples.iter().map(|example| {
        json!({
            "name": example.name,
            "schedule": example.schedule,
            // Written as text in the manifest; what is no JSON there is shown as it stands.
            "config": serde_json::from_str(example.config).unwrap_or(Value::from(example.config)),
            "insert": example_insert(manifest, example, dialect),
        })
    });
    json!({
        "kind": manifest.kind,
        "checks": manifest.checks,
        "parameters": parameters.collect::<Vec<_>>(),
        "verdicts": manifest.verdicts,
        "examples": examples.collect::<Vec<_>>(),
        "limits": manifest.limits,
        "looks_at_this_machine": manifest.looks_at_this_machine,
    })
}
