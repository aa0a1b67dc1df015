//! The steps between a run's commit and the note that people were told, and how a node is stopped at each.

use super::gate::Stop;

/// Where a node is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// The run is committed, nothing is planned.
    Decided,
    /// Planned, and not claimed.
    Planned,
    /// Claimed, and the service has not seen a byte.
    Claimed,
    /// The service has read half of it.
    HalfRead,
    /// The service took it, and its answer is on the way.
    Taken,
    /// The answer is here, and not written down.
    Answered,
    /// Written down.
    Settled,
}

impl Step {
    pub(super) const ALL: [Step; 7] =
        [Step::Decided, Step::Planned, Step::Claimed, Step::HalfRead, Step::Taken, Step::Answered, Step::Settled];

    /// The step so many further on, round and round.
    pub(super) fn plus(self, steps: usize) -> Step {
        Self::ALL[(self as usize + steps) % Self::ALL.len()]
    }

    /// What the database refuses, so that the node cannot go on; and what the node says then.
    pub(super) fn refusal(self) -> Option<(&'static str, &'static str)> {
        const UNREADABLE: &str = "the outbox cannot be read";
        match self {
            Step::Decided => Some(("UPDATE OF planned_at ON notifications WHEN TRUE", UNREADABLE)),
            Step::Planned => Some(("UPDATE OF status ON notifications WHEN NEW.status = 'sending'", UNREADABLE)),
            Step::Answered => Some((
                "UPDATE OF status ON notifications WHEN OLD.status = 'sending' AND NEW.status <> 'sending'",
                "how deliveries ended cannot be written",
            )),
            Step::Claimed | Step::HalfRead | Step::Taken | Step::Settled => None,
        }
    }

    /// Where the services hold what comes.
    pub(super) fn stop(self) -> Option<Stop> {
        match self {
            Step::Claimed => Some(Stop::BeforeFirstByte),
            Step::HalfRead => Some(Stop::HalfRead),
            Step::Taken => Some(Stop::BeforeAnswer),
            Step::Decided | Step::Planned | Step::Answered | Step::Settled => None,
        }
    }

    /// How a row stands when a node died here.
    pub(super) fn row(self) -> &'static str {
        match self {
            Step::Decided => "status = 'pending' AND planned_at IS NULL AND attempts = 0",
            Step::Planned => "status = 'pending' AND planned_at IS NOT NULL AND attempts = 0",
            Step::Claimed | Step::HalfRead | Step::Taken | Step::Answered => "status = 'sending' AND attempts = 1",
            Step::Settled => "status = 'sent' AND attempts = 1",
        }
    }

    /// Whether the service has what nobody has noted: the one gap of at-least-once.
    pub(super) fn is_in_the_gap(self) -> bool {
        matches!(self, Step::Taken | Step::Answered)
    }
}
