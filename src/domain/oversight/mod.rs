//! Whether the watcher itself is alive: what its self-test says, and when a channel is in trouble.

mod channel_trouble;
mod self_test;
mod unwatched;

pub use channel_trouble::{
    CHANNEL_TROUBLE, FAILURE_WINDOW, Failures, LaneState, LaneTrouble, MOST_COUNTED, OutboxState, Waiting, over_notice,
    trouble_notice,
};
pub use self_test::{DayFigures, Lateness, MOST_NAMED, last_tick, self_test_message};
pub use unwatched::{UNWATCHED, Unwatched, WORTH_TELLING};
