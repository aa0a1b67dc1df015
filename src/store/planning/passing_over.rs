//! What somebody else has locked is planned another time, and all the rest now.
//!
//! Only what the plan would write is locked. Where others have some of that, it is planned anew without it, and without
//! what would go by it: messages of the same incident to the same recipient.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::domain::planning::{Candidate, Member, Step};
use crate::domain::{HoldReason, NotificationId};
use crate::store::database::{Connection, Dialect, query};
use crate::store::free_rows::{LOOK_BEYOND, lock_free};

/// The second plan is without what the first one met; more are needed only where others lock more meanwhile.
const MOST_LOOKS: u32 = 5;

/// See the module.
#[derive(Default)]
pub(super) struct PassedOver {
    ids: BTreeSet<NotificationId>,
    looks: u32,
}

impl PassedOver {
    /// Whether another plan is tried in this transaction.
    pub(super) fn may_look_again(&self) -> bool {
        self.looks < MOST_LOOKS
    }

    pub(super) fn add(&mut self, locked: BTreeSet<NotificationId>) {
        self.looks += 1;
        self.ids.extend(locked);
    }

    /// How many are to be read, of which `limit` are wanted.
    pub(super) fn widen(&self, limit: u32) -> u32 {
        if self.ids.is_empty() { limit } else { limit.saturating_add(LOOK_BEYOND) }
    }

    pub(super) fn leave_out(&self, candidates: &mut Vec<Candidate>) {
        candidates.retain(|candidate| {
            let siblings = candidate.siblings.iter().map(|sibling| sibling.id);
            let earlier = candidate.earlier_recoveries.iter().map(|recovery| recovery.id);
            !siblings.chain(earlier).chain([candidate.id]).any(|id| self.ids.contains(&id))
        });
    }

    pub(super) fn leave_out_members(&self, held: &mut HashMap<(String, HoldReason), Vec<Member>>) {
        held.values_mut().for_each(|members| members.retain(|member| !self.ids.contains(&member.id)));
    }
}

/// Locks what the steps write; returns what of it others have, or have changed since it was read.
pub(super) async fn locked_by_others(
    connection: &mut Connection,
    steps: &[Step],
) -> Result<BTreeSet<NotificationId>, sqlx::Error> {
    if connection.dialect() == Dialect::Sqlite {
        return Ok(BTreeSet::new());
    }
    let written: BTreeSet<i64> = steps.iter().flat_map(written_by).map(|id| id.0).collect();
    let free = lock_free(connection, written.iter().copied().collect(), &["pending", "held"]).await?;
    let free: BTreeSet<i64> = free.into_iter().collect();
    let mut locked: BTreeSet<i64> = written.difference(&free).copied().collect();
    // What was merged into one that is merged now is written too.
    let merged: Vec<i64> = steps.iter().flat_map(merged_by).map(|id| id.0).collect();
    if !merged.is_empty() {
        let of_merged = query("SELECT id, merged_into FROM notifications WHERE merged_into {in 1}");
        let mut within: BTreeMap<i64, i64> = BTreeMap::new();
        for row in &of_merged.bind(merged).fetch_all(&mut *connection).await? {
            within.insert(row.int("id")?, row.int("merged_into")?);
        }
        for id in lock_free(connection, within.keys().copied().collect(), &["merged"]).await? {
            within.remove(&id);
        }
        locked.extend(within.into_values());
    }
    Ok(locked.into_iter().map(NotificationId).collect())
}

fn written_by(step: &Step) -> Vec<NotificationId> {
    match step {
        Step::Send { id, .. } | Step::Hold { id, .. } | Step::Withdraw { id, .. } | Step::Retell { id, .. } => {
            vec![*id]
        }
        Step::Merge { .. } | Step::Digest { .. } => merged_by(step).to_vec(),
        Step::Queue { .. } => Vec::new(),
    }
}

fn merged_by(step: &Step) -> &[NotificationId] {
    match step {
        Step::Merge { ids, .. } => ids,
        Step::Digest { members, .. } => members,
        Step::Send { .. } | Step::Hold { .. } | Step::Withdraw { .. } | Step::Retell { .. } | Step::Queue { .. } => &[],
    }
}
