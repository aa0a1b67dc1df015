//! What this node knows of channels, routes, silences and dependencies: the rules as last read, and the opened channels.
//!
//! It follows the tables; what is decided inside a transaction reads them there.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::domain::planning::{LaneTraits, MAIL_LANE};
use crate::domain::rules::{RuleTable, Rules};
use crate::ports::{Channel, ChannelSource, Store, StoreError};

/// While somebody has some of what is held locked, all of it is looked at anew so often: it may be much.
const REPORT_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// A lane's channel, or why there is none.
#[derive(Clone)]
pub(super) struct Lane {
    /// `url` of its row; empty for mail.
    pub(super) url: String,
    /// Switched off, it holds its messages.
    pub(super) is_active: bool,
    /// The channel.
    pub(super) channel: Result<Arc<dyn Channel>, String>,
}

/// The rules, and the lanes by name.
#[derive(Clone, Default)]
pub(super) struct KnownRules {
    pub(super) rules: Arc<Rules>,
    pub(super) lanes: Arc<BTreeMap<String, Lane>>,
    /// What planning needs to know of the lanes.
    pub(super) traits: Arc<BTreeMap<String, LaneTraits>>,
}

/// See the module.
pub(super) struct Rulebook {
    store: Arc<dyn Store>,
    source: Arc<dyn ChannelSource>,
    known: RwLock<KnownRules>,
    /// Held while it is brought up to date: by one at a time.
    refreshing: Mutex<()>,
    /// What follows from the last edit was not written yet, or not wholly: from when on it is tried again.
    report_owed_from: Mutex<Option<Instant>>,
}

impl Rulebook {
    pub(super) fn new(store: Arc<dyn Store>, source: Arc<dyn ChannelSource>) -> Self {
        Self { store, source, known: RwLock::default(), refreshing: Mutex::new(()), report_owed_from: Mutex::default() }
    }

    pub(super) fn known(&self) -> KnownRules {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the tables where they were edited. Whoever asks while that goes on waits for it.
    pub(super) async fn refresh(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.refreshing.lock().await;
        let rules = self.store.rules().await?;
        let before = self.known();
        if before.rules.version == rules.version {
            return Ok(());
        }
        let lanes = self.open(&rules, &before.lanes);
        let traits =
            lanes.iter().filter_map(|(name, lane)| Some((name.clone(), traits(lane.channel.as_ref().ok()?.as_ref()))));
        let known = KnownRules { rules, traits: Arc::new(traits.collect()), lanes: Arc::new(lanes) };
        // The rules are followed as they are, whether or not their rows can be told what is wrong with them.
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known.clone();
        self.report(&known).await
    }

    /// Writes what could not be written when the tables were edited last. Without this, what a silence held that was
    /// taken back would stay held until the end that the silence once had.
    pub(super) async fn report_owed(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.refreshing.lock().await;
        let is_due = self.report_owed_from.lock().await.is_some_and(|from| from <= Instant::now());
        if is_due { self.report(&self.known()).await } else { Ok(()) }
    }

    async fn report(&self, known: &KnownRules) -> Result<(), StoreError> {
        let mut owed_from = self.report_owed_from.lock().await;
        *owed_from = Some(Instant::now());
        let is_all = self.store.report_rules(&reports(&known.rules, &known.lanes)).await?;
        *owed_from = (!is_all).then(|| Instant::now() + REPORT_AGAIN_AFTER);
        Ok(())
    }

    fn open(&self, rules: &Rules, before: &BTreeMap<String, Lane>) -> BTreeMap<String, Lane> {
        let mail = Lane { url: String::new(), is_active: true, channel: Ok(self.source.mail()) };
        let mut lanes = BTreeMap::from([(MAIL_LANE.to_owned(), mail)]);
        for (name, rule) in &rules.channels {
            let kept = before.get(name).filter(|lane| lane.url == rule.row.url);
            // Kept with its connections.
            let channel = kept.map_or_else(|| self.source.open(&rule.row.url), |lane| lane.channel.clone());
            lanes.insert(name.clone(), Lane { url: rule.row.url.clone(), is_active: rule.row.is_active, channel });
        }
        lanes
    }
}

fn traits(channel: &dyn Channel) -> LaneTraits {
    LaneTraits { can_edit: channel.can_edit(), wants_each: channel.wants_each() }
}

/// The rows whose `config_error` is another than what stands there.
fn reports(rules: &Rules, lanes: &BTreeMap<String, Lane>) -> Vec<(RuleTable, i64, Option<String>)> {
    let of_rule = |table, id| rules.faults.get(&(table, id)).cloned();
    let channels = rules.channels.values().map(|rule| {
        let of_url = lanes.get(&rule.row.name).and_then(|lane| lane.channel.as_ref().err().cloned());
        let faults: Vec<String> = of_url.into_iter().chain(of_rule(RuleTable::Channels, rule.row.id)).collect();
        let fault = (!faults.is_empty()).then(|| faults.join("; "));
        (RuleTable::Channels, rule.row.id, fault, &rule.row.config_error)
    });
    let others = rules.reported.iter().map(|((table, id), stands)| (*table, *id, of_rule(*table, *id), stands));
    channels
        .chain(others)
        .filter(|(_, _, fault, stands)| fault != *stands)
        .map(|(table, id, fault, _)| (table, id, fault))
        .collect()
}
