//! What the log and the figures say of this node among the others: each thing once.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::{Member, MembershipError, settings_apart};
use crate::ports::LiveNode;

impl Member {
    pub(super) fn tell_apart<'a>(&self, others: impl Iterator<Item = &'a LiveNode>) {
        for node in others {
            for apart in settings_apart(&self.settings.settings, &node.name, &node.settings) {
                let mut told = self.view.told_apart.lock().unwrap_or_else(PoisonError::into_inner);
                if told.insert(apart.clone()) {
                    tracing::warn!(
                        key = apart.key,
                        here = apart.here,
                        other_node = apart.node,
                        there = apart.there,
                        "a setting that must be the same on all nodes is not"
                    );
                }
            }
        }
    }

    /// Says once that something begins to fail, and that it works again.
    pub(super) fn report(&self, error: Option<MembershipError>) {
        let is_skew = matches!(error, Some(MembershipError::ClockSkew { .. }));
        let was_skew = self.view.is_out_of_step.swap(is_skew, Ordering::Relaxed);
        let was_in_trouble = self.view.is_in_trouble.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if is_skew && !was_skew => {
                tracing::error!(%error, "this node steps aside until the clocks agree: it checks and sends nothing");
            }
            Some(error) if !was_in_trouble => {
                tracing::warn!(%error, "this node's lease cannot be renewed; it is tried again");
            }
            None if was_in_trouble => tracing::info!("this node's lease is renewed again"),
            Some(_) | None => {}
        }
        let term = self.lease.term();
        if !self.lease.holds() && self.view.lost_terms.swap(term, Ordering::Relaxed) != term {
            self.meter.count("leases_lost", 1);
            tracing::error!("this node has no lease any more: it checks and sends nothing until it has one again");
        }
    }
}
