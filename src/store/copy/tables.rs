//! What an installation consists of: the tables, in the order in which they are copied.

use crate::store::database::Type;
use crate::store::database::Type::{Int, Text, Time};

/// A table of Watchbell's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The columns that tell its rows apart, and in whose order they are copied; the first is a number.
    pub(super) key: &'static [&'static str],
    /// All but those that the database computes.
    pub(super) columns: &'static [(&'static str, Type)],
    /// Which texts are JSON: they may be spelled another way in the target, and mean the same.
    pub(super) json: &'static [&'static str],
    /// How many rows are in memory at once: fewer where a row may be large.
    pub(super) page: u32,
    /// Whether its one row is there from the start.
    pub(super) is_single: bool,
}

impl Table {
    /// Whether the database numbers its rows.
    pub(super) fn is_numbered(&self) -> bool {
        self.key == ["id"] && !self.is_single
    }

    /// The names of the columns, as a statement lists them.
    pub(super) fn names(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// Where a column stands.
    pub(super) fn position(&self, column: &str) -> usize {
        self.columns.iter().position(|(name, _)| *name == column).unwrap_or_default()
    }
}

const PLAIN: Table = Table { name: "", key: &["id"], columns: &[], json: &[], page: 2_000, is_single: false };

/// `monitors` comes before `monitor_changes`, in which the target's triggers write about it.
pub(super) const TABLES: &[Table] = &[
    MONITORS,
    MONITOR_CHANGES,
    Table {
        name: "channels",
        columns: &[
            ("id", Int),
            ("name", Text),
            ("url", Text),
            ("is_active", Int),
            ("max_per_minute", Int),
            ("quiet_hours", Text),
            ("quiet_timezone", Text),
            ("wants_state_changes", Int),
            ("created_at", Time),
            ("config_error", Text),
            ("inbox_cursor", Text),
        ],
        ..PLAIN
    },
    Table {
        name: "routes",
        columns: &[
            ("id", Int),
            ("severity", Text),
            ("selector", Text),
            ("recipients", Text),
            ("after_minutes", Int),
            ("unless_acknowledged", Int),
            ("sort_order", Int),
            ("is_active", Int),
            ("config_error", Text),
        ],
        json: &["recipients"],
        page: 200,
        ..PLAIN
    },
    Table {
        name: "silences",
        columns: &[
            ("id", Int),
            ("monitor_id", Int),
            ("selector", Text),
            ("starts_at", Time),
            ("ends_at", Time),
            ("schedule", Text),
            ("timezone", Text),
            ("duration_minutes", Int),
            ("created_by", Text),
            ("reason", Text),
            ("command_id", Text),
            ("created_at", Time),
            ("config_error", Text),
        ],
        ..PLAIN
    },
    Table {
        name: "dependencies",
        key: &["child_id", "parent_id"],
        columns: &[("child_id", Int), ("parent_id", Int)],
        ..PLAIN
    },
    Table {
        name: "incidents",
        columns: &[
            ("id", Int),
            ("uuid", Text),
            ("monitor_id", Int),
            ("monitor_name", Text),
            ("opened_at", Time),
            ("opening_message", Text),
            ("acknowledged_at", Time),
            ("acknowledged_by", Text),
            ("acknowledgment_note", Text),
            ("acknowledged_until", Time),
            ("recovered_at", Time),
            ("is_silent", Int),
            ("acknowledgment_command", Text),
            ("acknowledgment_told_at", Time),
        ],
        page: 500,
        ..PLAIN
    },
    NOTIFICATIONS,
    Table {
        name: "notification_events",
        columns: &[("id", Int), ("notification_id", Int), ("at", Time), ("event", Text), ("detail", Text)],
        ..PLAIN
    },
    Table {
        name: "monitor_runs",
        columns: &[
            ("id", Int),
            ("monitor_id", Int),
            ("cause", Text),
            ("tick_at", Time),
            ("started_at", Time),
            ("duration_ms", Int),
            ("is_ok", Int),
            ("message", Text),
            ("metrics", Text),
            ("state_before", Text),
            ("state_after", Text),
            ("notification_type", Text),
            ("node", Text),
            ("reason", Text),
        ],
        json: &["metrics"],
        ..PLAIN
    },
    Table { name: "monitor_run_hours", ..ROLLED_UP },
    Table { name: "monitor_run_days", ..ROLLED_UP },
    Table {
        name: "nodes",
        columns: &[
            ("id", Int),
            ("uuid", Text),
            ("name", Text),
            ("labels", Text),
            ("started_at", Time),
            ("lease_until", Time),
            ("version", Text),
            ("heartbeat_at", Time),
            ("kinds", Text),
            ("monitor_count", Int),
            ("lateness_p99_ms", Int),
            ("clock_skew_ms", Int),
            ("settings", Text),
        ],
        json: &["labels", "kinds", "settings"],
        page: 200,
        ..PLAIN
    },
    Table { name: "rules_version", columns: &[("id", Int), ("version", Int)], is_single: true, ..PLAIN },
    Table {
        name: "rollup_progress",
        columns: &[
            ("id", Int),
            ("hours_until", Time),
            ("hours_after_monitor", Int),
            ("days_until", Time),
            ("days_after_monitor", Int),
            ("taken_by", Text),
            ("taken_until", Time),
        ],
        is_single: true,
        ..PLAIN
    },
];

/// Which installation it is. Its row is written last: until then the target is not to be served.
#[cfg(test)]
pub(super) const INSTALLATION: Table =
    Table { name: "installation", columns: &[("id", Int), ("uuid", Text), ("name", Text)], is_single: true, ..PLAIN };

const MONITORS: Table = Table {
    name: "monitors",
    columns: &[
        ("id", Int),
        ("uuid", Text),
        ("is_active", Int),
        ("created_at", Time),
        ("updated_at", Time),
        ("name", Text),
        ("kind", Text),
        ("schedule", Text),
        ("timezone", Text),
        ("config", Text),
        ("severity", Text),
        ("labels", Text),
        ("runs_on", Text),
        ("timeout_seconds", Int),
        ("retries", Int),
        ("retry_delay_seconds", Int),
        ("state", Text),
        ("consecutive_ok_count", Int),
        ("required_consecutive_oks", Int),
        ("required_consecutive_alerts", Int),
        ("consecutive_alert_count", Int),
        ("reminder_frequency_minutes", Int),
        ("people_to_notify", Text),
        ("missed_tick_policy", Text),
        ("last_tick_at", Time),
        ("last_run_at", Time),
        ("last_result_message", Text),
        ("last_notification_at", Time),
        ("last_notification_type", Text),
        ("next_run_at", Time),
        ("config_error", Text),
        ("skipped_tick_count", Int),
        ("missed_tick_count", Int),
        ("revision", Int),
        ("recheck_seq", Int),
        ("write_seq", Int),
    ],
    json: &["config", "labels", "people_to_notify"],
    page: 500,
    ..PLAIN
};

const MONITOR_CHANGES: Table =
    Table { name: "monitor_changes", columns: &[("id", Int), ("monitor_id", Int), ("changed_at", Time)], ..PLAIN };

const NOTIFICATIONS: Table = Table {
    name: "notifications",
    columns: &[
        ("id", Int),
        ("uuid", Text),
        ("monitor_id", Int),
        ("incident_id", Int),
        ("type", Text),
        ("severity", Text),
        ("recipient", Text),
        ("subject", Text),
        ("body", Text),
        ("status", Text),
        ("attempts", Int),
        ("next_attempt_at", Time),
        ("created_at", Time),
        ("sent_at", Time),
        ("last_error", Text),
        ("merged_into", Int),
        ("lease_owner", Text),
        ("lease_until", Time),
        ("facts", Text),
        ("rule", Text),
        ("origin", Text),
        ("hold_reason", Text),
        ("planned_at", Time),
        ("waits_for", Int),
        ("external_id", Text),
        ("edits_external_id", Text),
        ("run_id", Int),
        ("failed_at", Time),
    ],
    json: &["facts"],
    page: 100,
    ..PLAIN
};

const ROLLED_UP: Table = Table {
    key: &["monitor_id", "starts_at"],
    columns: &[
        ("monitor_id", Int),
        ("starts_at", Time),
        ("runs", Int),
        ("failed_runs", Int),
        ("duration_ms_total", Int),
        ("duration_ms_max", Int),
        ("lateness_ms_max", Int),
    ],
    ..PLAIN
};
