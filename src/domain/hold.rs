//! Why a notification is held back.

use std::fmt;
use std::str::FromStr;

use super::monitor::UnknownWord;

/// Why a notification is held back. The words stand in `notifications.hold_reason`, where the number is the id of the
/// row that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HoldReason {
    /// A route that waits: this row of `routes`.
    Escalation(i64),
    /// This row of `silences`.
    Silence(i64),
    /// The channel's quiet hours.
    QuietHours,
    /// Its channel is switched off.
    ChannelOff,
    /// The monitor has parents that are being checked, or one of them (this monitor) is down.
    Dependency(Option<i64>),
    /// The recipient was told of the same origin within the last minute.
    Repetition,
    /// Many monitors failed, or recovered, together.
    Storm,
    /// The channel's `max_per_minute` is used up.
    RateLimit,
    /// The node that saw the failures looks cut off itself.
    CutOff,
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HoldReason::Escalation(route) => write!(f, "escalation {route}"),
            HoldReason::Silence(silence) => write!(f, "silence {silence}"),
            HoldReason::QuietHours => f.write_str("quiet_hours"),
            HoldReason::ChannelOff => f.write_str("channel_off"),
            HoldReason::Dependency(None) => f.write_str("dependency"),
            HoldReason::Dependency(Some(parent)) => write!(f, "dependency {parent}"),
            HoldReason::Repetition => f.write_str("repetition"),
            HoldReason::Storm => f.write_str("storm"),
            HoldReason::RateLimit => f.write_str("rate_limit"),
            HoldReason::CutOff => f.write_str("cut_off"),
        }
    }
}

impl FromStr for HoldReason {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (word, number) = text.split_once(' ').map_or((text, None), |(word, number)| (word, number.parse().ok()));
        match (word, number) {
            ("escalation", Some(route)) => Ok(HoldReason::Escalation(route)),
            ("silence", Some(silence)) => Ok(HoldReason::Silence(silence)),
            ("quiet_hours", None) => Ok(HoldReason::QuietHours),
            ("channel_off", None) => Ok(HoldReason::ChannelOff),
            ("dependency", parent) => Ok(HoldReason::Dependency(parent)),
            ("repetition", None) => Ok(HoldReason::Repetition),
            ("storm", None) => Ok(HoldReason::Storm),
            ("rate_limit", None) => Ok(HoldReason::RateLimit),
            ("cut_off", None) => Ok(HoldReason::CutOff),
            _ => Err(UnknownWord { what: "reason to hold a notification back", word: text.to_owned() }),
        }
    }
}
