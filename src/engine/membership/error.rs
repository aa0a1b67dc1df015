//! Why a node cannot take part.

use std::time::Duration;

use chrono::TimeDelta;

use crate::ports::StoreError;

/// Why a node cannot work among the others now.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The database.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// It did not answer.
    #[error("the database did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// Its ticks would come at other times than those of the other nodes.
    #[error(
        "the clock of this machine is {} s {} that of the database, and at most {} s are allowed (hint: let NTP set both, \
         for example with chrony; `timedatectl` says whether it does; `node.max_clock_skew_seconds` is the limit)",
        fraction(.ahead.abs()),
        if *.ahead > TimeDelta::zero() { "ahead of" } else { "behind" },
        fraction(*.most)
    )]
    ClockSkew {
        /// How far it is ahead; negative: behind.
        ahead: TimeDelta,
        /// The limit.
        most: TimeDelta,
    },
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
fn fraction(span: TimeDelta) -> f64 {
    span.num_milliseconds() as f64 / 1_000.0
}
