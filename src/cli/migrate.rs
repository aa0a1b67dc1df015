//! `watchbell migrate`: the tables brought up to date, and nothing else.

use super::answer::Answer;
use super::installation::Installation;

/// Opening has applied what was missing.
pub(super) fn migrated(installation: &Installation) -> Answer {
    let (store, shown) = (&installation.sql, installation.configuration.database_url.masked());
    let version = store.schema_version();
    if store.steps_applied().is_empty() {
        return Answer::of_text(format!("nothing to do: the tables of {shown} are up to date, at step {version}"));
    }
    let mut text = String::new();
    for step in store.steps_applied() {
        text.push_str(&format!("applied step {} `{}`\n", step.version, step.name));
    }
    text.push_str(&format!("the tables of {shown} are up to date, at step {version}"));
    Answer::of_text(text)
}
