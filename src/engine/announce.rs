//! What the log says of people who are told, or who are not: one line for each piece of work that tells anybody or
//! opens an incident. It decides nothing.

use crate::domain::rules::Rules;
use crate::domain::{People, Recipients, State};
use crate::ports::{Applied, Work};

/// Says what `work`, as it was applied, means for people.
pub(super) fn announce(work: &Work, applied: &Applied, rules: &Rules) {
    let Applied::Written { state_before, state_after, notification_type, queued, .. } = applied else { return };
    let id = work.monitor_id().0;
    let after = state_after.map(tracing::field::display);
    match (work, notification_type) {
        (Work::Run(run), Some(kind)) => tracing::info!(
            monitor.id = id, monitor.name = run.monitor.name, %kind, recipients = queued, %state_before,
            state_after = after, "people are to be told"
        ),
        // The row may be gone, and its name with it.
        (Work::Edit { .. }, Some(kind)) => tracing::info!(
            monitor.id = id, %kind, recipients = queued, %state_before, state_after = after,
            "people are to be told, since {}",
            if state_after.is_none() { "a row was deleted while in alert" } else { "a state was set to ok by hand" }
        ),
        (Work::Run(run), None) if (*state_before, *state_after) == (State::Ok, Some(State::Alert)) => {
            let people = Recipients::read(run.monitor.people_to_notify.as_deref(), &[], &rules.channels).people;
            let name = run.monitor.name.as_str();
            match people {
                People::Nobody => tracing::info!(
                    monitor.id = id,
                    monitor.name = name,
                    "a monitor went into alert; nobody is told, as its `people_to_notify` says"
                ),
                People::ByRoutes | People::Listed(_) => tracing::warn!(
                    monitor.id = id,
                    monitor.name = name,
                    "a monitor went into alert and nobody is told: neither its `people_to_notify` nor a route names a recipient that there is"
                ),
            }
        }
        (Work::Run(_) | Work::Edit { .. }, None) => {}
    }
}
