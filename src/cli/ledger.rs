//! Rules, holds and ledger entries in words for people.

use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;

use super::columns::{is_set, text};
use crate::domain::rules::RuleTable;
use crate::domain::{HoldReason, MonitorId, one_line};
use crate::ports::{Columns, Store, StoreError};

/// Enough of a name, a reason or a service's answer to know it by.
const MOST_CHARS: usize = 300;

/// What people wrote, on one line and without what a terminal obeys.
pub(super) fn short(text: &str) -> String {
    one_line(text, MOST_CHARS).into_owned()
}

/// A time on the clocks of a zone: `2026-11-22 13:03:00 CET`.
pub(super) fn clock(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// The same of a column; what is no time stays as it is.
pub(super) fn clock_of(columns: &Columns, name: &str, zone: Tz) -> String {
    let text = text(columns, name);
    text.parse::<DateTime<Utc>>().map_or(text, |at| clock(at, zone))
}

/// The rule that chose a recipient, with the text of its row where it is a route.
pub(super) async fn rule(store: &dyn Store, rule: &str) -> Result<String, StoreError> {
    let Some(id) = rule.strip_prefix("route ").and_then(|id| id.parse::<i64>().ok()) else {
        return Ok(match rule {
            "" => "not recorded".to_owned(),
            "told before" => "told before: whoever was told of the incident is owed its recovery".to_owned(),
            "admins" => "admins: no entry of people_to_notify is a recipient".to_owned(),
            "wants_state_changes" => "the channel wants every change of state".to_owned(),
            other => short(other),
        });
    };
    Ok(match store.rule_record(RuleTable::Routes, id).await? {
        Some(row) => format!("route {id} ({})", route(&row)),
        None => format!("route {id}, which is gone by now"),
    })
}

/// A row of `routes` in words.
pub(super) fn route(row: &Columns) -> String {
    let mut parts = Vec::new();
    parts.push(match text(row, "severity").as_str() {
        "" => "any severity".to_owned(),
        severity => severity.to_owned(),
    });
    let selector = text(row, "selector");
    if !selector.trim().is_empty() {
        parts.push(format!("where {}", short(&selector)));
    }
    let minutes = text(row, "after_minutes");
    if minutes != "0" && !minutes.is_empty() {
        let unless = if is_set(row, "unless_acknowledged") { " unless acknowledged" } else { "" };
        parts.push(format!("after {minutes} min{unless}"));
    }
    if !is_set(row, "is_active") {
        parts.push("switched off by now".to_owned());
    }
    parts.join(", ")
}

/// What holds a notification, in words. `reason` is the column `hold_reason`.
pub(super) async fn hold(store: &dyn Store, reason: &str) -> Result<String, StoreError> {
    let Ok(known) = reason.parse::<HoldReason>() else { return Ok(short(reason)) };
    Ok(match known {
        HoldReason::Escalation(id) => match store.rule_record(RuleTable::Routes, id).await? {
            Some(row) => format!("route {id}, which waits ({})", route(&row)),
            None => format!("route {id}, which is gone by now"),
        },
        HoldReason::Silence(id) => match store.rule_record(RuleTable::Silences, id).await? {
            Some(row) => {
                let by = Some(text(&row, "created_by")).filter(|by| !by.is_empty());
                let why = Some(text(&row, "reason")).filter(|why| !why.is_empty());
                let parts: Vec<String> =
                    by.map(|by| format!("by {}", short(&by))).into_iter().chain(why.map(|why| short(&why))).collect();
                match parts.is_empty() {
                    true => format!("silence {id}"),
                    false => format!("silence {id} ({})", parts.join(": ")),
                }
            }
            None => format!("silence {id}, which is gone by now"),
        },
        HoldReason::QuietHours => "the quiet hours of its channel".to_owned(),
        HoldReason::ChannelOff => "its channel, which is switched off".to_owned(),
        HoldReason::Dependency(None) => "its parents, which are being checked".to_owned(),
        HoldReason::Dependency(Some(parent)) => match store.monitor(MonitorId(parent)).await? {
            Some(row) => format!("its parent {}, which is down", super::find::called(&row)),
            None => format!("its parent {parent}, which is gone by now"),
        },
        HoldReason::Repetition => "repetition: the same origin had told this recipient just before".to_owned(),
        HoldReason::Storm => "a storm: many monitors change together, and one digest tells them".to_owned(),
        HoldReason::RateLimit => "max_per_minute of its channel".to_owned(),
        HoldReason::CutOff => "its node, which looks cut off itself".to_owned(),
    })
}

/// Until when `reason` holds: its end, or, where that is not known before it comes, when it is looked at again.
pub(super) fn until(reason: &str, at: &str) -> String {
    match reason.parse() {
        Ok(HoldReason::ChannelOff | HoldReason::Dependency(Some(_))) => format!("looked at again {at}"),
        _ => format!("until {at}"),
    }
}

/// A time inside a text as the database writes it, on the clocks of a zone.
pub(super) fn clock_in(text: &str, zone: Tz) -> String {
    match text.parse::<DateTime<Utc>>() {
        Ok(at) if at.to_rfc3339_opts(SecondsFormat::Millis, true) == text => clock(at, zone),
        Ok(_) | Err(_) => short(text),
    }
}
