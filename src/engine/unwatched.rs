//! Tells the admins, once, of a time in which nobody watched.

use std::sync::Arc;

use chrono::SecondsFormat;

use super::notice_key::notice_key;
use crate::domain::oversight::{UNWATCHED, Unwatched};
use crate::ports::{Store, StoreError};

pub(super) struct UnwatchedTeller {
    pub(super) store: Arc<dyn Store>,
    pub(super) installation: String,
    pub(super) admins: Vec<String>,
}

impl UnwatchedTeller {
    /// Queues the notice. Its key is of the moment from which on nobody watched: whoever tells of it again tells nothing.
    pub(super) async fn tell(&self, unwatched: &Unwatched) -> Result<(), StoreError> {
        let since = unwatched.since.to_rfc3339_opts(SecondsFormat::Millis, true);
        let notice =
            |admin: &String| (notice_key(&self.installation, &[UNWATCHED, &since, admin]), unwatched.notice(admin));
        let notices: Vec<_> = self.admins.iter().map(notice).collect();
        if notices.is_empty() {
            tracing::error!(
                %since, until = %unwatched.until, monitors = unwatched.monitors, ticks = unwatched.ticks,
                "nothing was watched for a while, and no admin can be told of it; add one to `admins`"
            );
            return Ok(());
        }
        let queued = self.store.queue_notices(&notices).await?;
        tracing::warn!(
            %since, until = %unwatched.until, monitors = unwatched.monitors, ticks = unwatched.ticks,
            made_up = unwatched.made_up, recipients = queued, "nothing was watched for a while; admins are told of it"
        );
        Ok(())
    }
}
