//! The core that one can read in half an hour: what a run does to a monitor, and what it owes to people.
//!
//! Pure: no I/O, no clock, no randomness, no logging. `now` is an argument everywhere.

mod acknowledgment;
mod backoff;
pub mod commands;
mod decision;
mod facts;
mod hold;
mod incident;
mod message;
mod monitor;
mod notification;
pub mod oversight;
pub mod placement;
pub mod planning;
mod recipients;
mod retry;
mod rollup;
mod routing;
pub mod rules;
mod run;
pub mod schedule;
pub mod selector;
mod text;
mod transition;

pub use acknowledgment::{Acknowledgment, acknowledgment_notice};
pub use backoff::{Backoff, DELIVERY_BACKOFF};
pub use decision::{
    Change, Current, Decision, DiscardReason, IncidentReference, NewIncident, Policy, RowUpdate, decide_edit,
    decide_late_run, decide_run,
};
pub use facts::Facts;
pub use hold::HoldReason;
pub use incident::{ClosingReason, IncidentId, OpenIncident};
pub use message::{body, subject, was_down};
pub use monitor::{MissedTickPolicy, MonitorId, MonitorRow, UnknownWord};
pub use notification::{
    Hold, NewNotification, NotificationId, NotificationStatus, NotificationType, OutboxRow, Settlement,
};
pub use recipients::{People, RecipientFault, Recipients, address_options};
pub use retry::{GivenUp, Relative, Retry, RetryRefusal, retry};
pub use rollup::{Gathering, HistoryPolicy, Span, Totals};
pub use routing::{Chosen, Question};
pub use run::{Cause, FinishedRun};
pub use text::{make_safe, one_line};
pub use transition::{NotificationReason, Standing, State, Transition, Verdict, transition};
