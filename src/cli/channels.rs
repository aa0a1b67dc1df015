//! `watchbell channels`: where messages can go that are no mail, and how a row says so.

use clap::Args;
use serde_json::{Value, json};
use watchbell_contract::nearest;

use super::FileFlag;
use super::answer::{Answer, Trouble};
use super::sql_text::{Dialect, insert_into};
use super::table;
use crate::channels::{ChannelType, all, find};
use crate::config::Configuration;

/// What follows `channels`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: FileFlag,
    /// One type, with its options and an example INSERT; without it, all types
    #[arg(value_name = "TYPE")]
    channel_type: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// All types of channels, or one whole.
///
/// # Errors
/// When there is no such type.
pub(super) async fn channels(arguments: &Arguments, configuration: &Configuration) -> anyhow::Result<Answer> {
    let dialect = Dialect::of_configuration(configuration).await;
    let Some(name) = &arguments.channel_type else {
        return match arguments.json {
            true => Answer::of_json(&all().into_iter().map(|of| as_json(of, dialect)).collect::<Vec<_>>()),
            false => Ok(Answer::of_text(overview(&all()))),
        };
    };
    let Some(channel_type) = find(name) else { return Err(unknown(name).into()) };
    match arguments.json {
        true => Answer::of_json(&as_json(channel_type, dialect)),
        false => Ok(Answer::of_text(whole(channel_type, dialect))),
    }
}

fn unknown(name: &str) -> Trouble {
    let names: Vec<&str> = all().into_iter().map(|channel_type| channel_type.name).collect();
    let trouble = Trouble::usage(format!("there is no type of channel `{name}`"));
    match nearest(name, names.iter().copied()) {
        Some(near) => trouble.hint(format!("did you mean `{near}`?")),
        None => trouble.hint(format!("there are {}", names.join(", "))),
    }
}

fn overview(types: &[&ChannelType]) -> String {
    let rows: Vec<Vec<String>> = types.iter().map(|of| vec![of.name.to_owned(), of.delivers.to_owned()]).collect();
    let table = table::aligned(&["type", "delivers"], &rows, table::line_width());
    format!("{table}\n`watchbell channels TYPE` shows its options and an INSERT to paste.\n")
}

fn whole(channel_type: &ChannelType, dialect: Dialect) -> String {
    let mut text = format!("{}: {}\n\n`url`: {}\n", channel_type.name, channel_type.delivers, shape(channel_type));
    if let Some(address) = channel_type.address {
        text.push_str(&format!("  ADDRESS\n      {address}\n"));
    }
    for option in channel_type.options {
        let default = option.default.map_or("required".to_owned(), |default| format!("default: {default}"));
        let secret =
            if option.is_secret { "; may hold secret references such as ${env:WATCHBELL_SECRET_X}" } else { "" };
        text.push_str(&format!("  {} ({default}{secret})\n      {}\n", option.name, option.meaning));
    }
    text.push_str(&format!("\nDoubles: {}\n\nLimits: {}\n", channel_type.doubles, channel_type.limits));
    for example in channel_type.examples {
        text.push_str(&format!("\n{}\n", example_insert(channel_type, example, dialect)));
    }
    text
}

/// What a URL of this type looks like: `matrix+ADDRESS#room=...&token=...`.
fn shape(channel_type: &ChannelType) -> String {
    let joint = match channel_type.examples.first() {
        Some(example) if example[channel_type.name.len()..].starts_with('+') => '+',
        _ => ':',
    };
    let address = if channel_type.address.is_some() { "ADDRESS" } else { "" };
    let options = if channel_type.options.is_empty() { "" } else { "#OPTION=VALUE&OPTION=VALUE" };
    let names: Vec<String> = std::iter::once(channel_type.name)
        .chain(channel_type.other_names.iter().copied())
        .map(|name| format!("`{name}{joint}{address}{options}`"))
        .collect();
    names.join(" or ")
}

fn example_insert(channel_type: &ChannelType, url: &str, dialect: Dialect) -> String {
    let name = format!("ops-{}", channel_type.name);
    insert_into(dialect, "channels", &[("name", Some(&name)), ("url", Some(url))])
}

fn as_json(channel_type: &ChannelType, dialect: Dialect) -> Value {
    let options = channel_type.options.iter().map(|option| {
        json!({
            "name": option.name,
            "is_required": option.default.is_none(),
            "default": option.default,
            "meaning": option.meaning,
            "is_secret": option.is_secret,
        })
    });
    let examples = channel_type
        .examples
        .iter()
        .map(|url| json!({"url": url, "insert": example_insert(channel_type, url, dialect)}));
    json!({
        "type": channel_type.name,
        "other_names": channel_type.other_names,
        "delivers": channel_type.delivers,
        "shape": shape(channel_type),
        "address": channel_type.address,
        "options": options.collect::<Vec<_>>(),
        "examples": examples.collect::<Vec<_>>(),
        "doubles": channel_type.doubles,
        "limits": channel_type.limits,
    })
}
