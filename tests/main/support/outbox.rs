//! The outbox as a dispatcher works it, for tests that are their own dispatcher.

use chrono::{DateTime, TimeDelta, Utc};
use watchbell::domain::OutboxRow;
use watchbell::domain::planning::{Limits, MAIL_LANE, plan};
use watchbell::ports::{LaneClaim, PlanRequest, Store, StoreError};

/// Limits that hold nothing back.
pub(crate) fn no_limits() -> Limits {
    Limits { repetition: TimeDelta::zero(), storm_first: 1_000_000, cut_off_monitors: 1_000_000, ..Limits::default() }
}

/// Plans all that is to be planned, under `limits`.
pub(crate) async fn plan_all(store: &dyn Store, limits: Limits) -> Result<(), StoreError> {
    let request = PlanRequest {
        limit: 500,
        look_back: TimeDelta::minutes(5),
        cut_off_monitors: limits.cut_off_monitors,
        admins: limits.admins.clone(),
    };
    let decide = move |candidates: &[_], situation| plan(candidates, situation, &Default::default(), &limits);
    store.plan_notifications(&request, &decide).await.map(drop)
}

/// Plans, and takes up to `limit` due mails until `lease_until`.
pub(crate) async fn claim(
    store: &dyn Store,
    owner: &str,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
    limit: u32,
) -> Result<Vec<OutboxRow>, StoreError> {
    plan_all(store, no_limits()).await?;
    let lanes = [LaneClaim { lane: MAIL_LANE.to_owned(), limit }];
    store.claim_notifications(owner, now, lease_until, now, &lanes).await
}
