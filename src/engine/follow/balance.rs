//! Which monitors are run here: all rows at the start, and again whenever nodes come and go or this one has its lease
//! back.
//!
//! What is lost is let go at once, in memory. What is gained is read anew, page by page, since other nodes have written to
//! it meanwhile; the ticks of monitors that stay go on between the pages.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Follower, JobChange, MOST_MISSED, Occasion, PAGE, missed_ticks};
use crate::domain::oversight::Unwatched;
use crate::domain::{MissedTickPolicy, MonitorId, MonitorRow};
use crate::engine::roster::Share;
use crate::engine::unwatched::UnwatchedTeller;
use crate::ports::StoreError;

/// After a failure of the database.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What of the nodes this node's share was last computed from.
pub(in crate::engine) struct Seen {
    changes: watch::Receiver<u64>,
    /// The term of the lease in which it was.
    term: u64,
}

impl Follower {
    /// Reads all rows: at the start. Ticks that passed meanwhile are caught up with as each row says.
    pub(in crate::engine) async fn load(&self) -> Result<Seen, StoreError> {
        let mut changes = self.member.changes();
        changes.borrow_and_update();
        let seen = Seen { changes, term: self.member.lease.term() };
        let mut cursor = self.cursor.lock().await;
        *cursor = self.store.change_cursor().await?;
        let mut unwatched = self.member.take_unwatched();
        let now = self.clock.now();
        // Where others run, they had these monitors until now.
        let occasion = if self.member.is_among_others() { Occasion::TakeOver } else { Occasion::Start };
        self.for_each_row(|row| {
            self.count(unwatched.as_mut(), &row);
            self.take_in(row, now, occasion);
        })
        .await?;
        self.owe_notice(unwatched);
        Ok(seen)
    }

    /// Follows the nodes that come and go, until `stop`; and tells of a time in which nobody watched.
    pub(in crate::engine) async fn follow_the_fleet(
        &self,
        mut seen: Seen,
        teller: &UnwatchedTeller,
        stop: CancellationToken,
    ) {
        let mut is_owed = false;
        while !stop.is_cancelled() {
            is_owed |= seen.changes.has_changed().unwrap_or_default();
            if is_owed && self.member.lease.may_begin() {
                seen.changes.borrow_and_update();
                let term = self.member.lease.term();
                match self.rebalance(term != seen.term).await {
                    Ok(()) => (seen.term, is_owed) = (term, false),
                    Err(error) => {
                        tracing::warn!(%error, "this node's share of the monitors cannot be read; it is tried again")
                    }
                }
            }
            self.tell_unwatched(teller).await;
            tokio::select! {
                () = stop.cancelled() => {}
                _ = seen.changes.changed() => is_owed = true,
                () = tokio::time::sleep(AGAIN_AFTER) => {}
            }
        }
    }

    /// `is_back`: this node was without a lease, so that also what stays its own is to be read anew.
    async fn rebalance(&self, is_back: bool) -> Result<(), StoreError> {
        let given_away = self.let_go().await;
        let mut unwatched = self.member.take_unwatched();
        let occasion = if is_back && !self.member.is_among_others() { Occasion::Start } else { Occasion::TakeOver };
        let (mut after, mut taken) = (MonitorId(i64::MIN), 0);
        loop {
            let page = self.store.monitors(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            let mut gained = Vec::new();
            for row in page {
                self.count(unwatched.as_mut(), &row);
                if self.is_to_be_taken(&row, is_back) {
                    gained.push(row);
                }
            }
            taken += gained.len();
            self.take_over(gained, occasion).await?;
        }
        if given_away + taken > 0 {
            tracing::info!(given_away, taken, "monitors have moved between nodes");
        }
        self.owe_notice(unwatched);
        Ok(())
    }

    /// Gives away what is another's now.
    async fn let_go(&self) -> usize {
        let mut given_away = 0;
        for (number, id) in self.roster.ids().into_iter().enumerate() {
            let Some(known) = self.roster.get(id).filter(|known| known.share.is_ours()) else { continue };
            let share = self.member.share_of(&known.row);
            if !share.is_ours() && self.roster.give_away(id, share) {
                self.change_job(JobChange::Remove(id));
                given_away += 1;
            }
            if number % PAGE as usize == 0 {
                tokio::task::yield_now().await;
            }
        }
        given_away
    }

    fn is_to_be_taken(&self, row: &MonitorRow, is_back: bool) -> bool {
        let share = self.member.share_of(row);
        let known = self.roster.get(row.id).map(|known| known.share);
        match (&known, &share) {
            // Kept up to date, so that what waits here for a neighbour's answer knows where it may ask.
            (Some(_), Share::Others { .. }) => {
                if self.roster.give_away(row.id, share) {
                    self.change_job(JobChange::Remove(row.id));
                }
                false
            }
            (None, share) => share.is_ours(),
            (Some(known), share) => is_back || known != share,
        }
    }

    /// The rows as they were just read. Nobody follows the change log meanwhile, so that no edit is undone.
    async fn take_over(&self, rows: Vec<MonitorRow>, occasion: Occasion) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let _cursor = self.cursor.lock().await;
        let now = self.clock.now();
        for row in rows {
            let is_outdated = self.roster.get(row.id).is_some_and(|known| known.row.revision > row.revision);
            let row = if is_outdated { self.store.monitor(row.id).await? } else { Some(row) };
            if let Some(row) = row {
                self.take_in(row, now, occasion);
            }
        }
        Ok(())
    }

    fn count(&self, unwatched: Option<&mut Unwatched>, row: &MonitorRow) {
        let Some(unwatched) = unwatched.filter(|_| row.is_active) else { return };
        let timing = self.schedules.read(row);
        if let Some((_, count)) = missed_ticks(row, &timing, unwatched.until) {
            unwatched.monitors += 1;
            unwatched.ticks += u64::from(count);
            unwatched.are_ticks_bounded |= count >= MOST_MISSED;
            unwatched.made_up += u64::from(row.missed_tick_policy == MissedTickPolicy::RunOnce);
        }
    }

    fn owe_notice(&self, unwatched: Option<Unwatched>) {
        if unwatched.is_some() {
            *self.unwatched.lock().unwrap_or_else(PoisonError::into_inner) = unwatched;
        }
    }

    async fn tell_unwatched(&self, teller: &UnwatchedTeller) {
        let owed = *self.unwatched.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(unwatched) = owed else { return };
        match teller.tell(&unwatched).await {
            Ok(()) => *self.unwatched.lock().unwrap_or_else(PoisonError::into_inner) = None,
            Err(error) => {
                tracing::warn!(%error, "that nothing was watched for a while is not told yet; it is tried again")
            }
        }
    }
}
