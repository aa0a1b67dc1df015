//! `watchbell migrate`: the tables brought up to date, and nothing else.

use super::answer::Answer;
use super::installation::Installation;

/// Opening has applied what was missing.
pub(super) fn migrated(installation: &Installation) -> Answer {
    Answer::of_text(format!("the tables of {} are up to date", installation.configuration.database_url.masked()))
}
