//! A server that goes away, hangs, or whose answer is lost: calls end, nothing is half-written, and the same store works
//! again afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{SubsecRound, Utc};
use watchbell::domain::{Cause, DiscardReason, FinishedRun, MonitorId, Policy, decide_run};
use watchbell::ports::{Applied, NodeIdentity, Store, StoreError, SystemClock, Work};
use watchbell::store::SqlStore;
use watchbell_contract::Outcome;

use crate::support::mariadb::{MariaDb, MariaDbOptions};
use crate::support::person::Person;
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::proxy::Proxy;

/// How long a call may take, whatever the network does; a little more on a loaded machine.
const LIMIT: Duration = Duration::from_secs(18);
/// A connection that broke is found out when it is used; a pool holds a few.
const TRIES: u32 = 10;

/// A store whose way to its server can be broken, and a person whose way cannot.
struct Site {
    proxy: Proxy,
    store: Arc<SqlStore>,
    person: Person,
    monitor: MonitorId,
}

impl Site {
    async fn over(url: &str, target: std::net::SocketAddr) -> Self {
        let proxy = Proxy::start(target).await;
        let store = Arc::new(SqlStore::open(&proxy.instead_of(url), Arc::new(SystemClock)).await.unwrap());
        let mut person = Person::connect(url).await.unwrap();
        let insert = "INSERT INTO monitors (name, kind, schedule, people_to_notify) \
            VALUES ('one', 'test', '@hourly', '[\"ann@example.com\"]')";
        person.must(insert).await;
        let monitor = MonitorId(person.value("SELECT max(id) FROM monitors").await.unwrap().parse().unwrap());
        Self { proxy, store, person, monitor }
    }

    async fn run(&self) -> Work {
        Work::Run(Box::new(FinishedRun {
            monitor: Arc::new(self.store.monitor(self.monitor).await.unwrap().unwrap()),
            cause: Cause::Schedule,
            // Columns hold milliseconds; a tick is a whole second.
            tick: Some(Utc::now().trunc_subsecs(3)),
            started_at: Utc::now(),
            duration: Duration::from_millis(7),
            outcome: Outcome::failed("broken"),
            config_error: None,
            next_run_at: None,
            skipped_ticks: 0,
            missed_ticks: 0,
        }))
    }

    /// Within the limit.
    async fn apply(&self, work: &Work) -> Result<Applied, StoreError> {
        let began = Instant::now();
        let answer = apply(&self.store, work).await;
        assert!(began.elapsed() < LIMIT, "{:?}: {answer:?}", began.elapsed());
        answer
    }

    async fn must_apply_again(&self, work: &Work) -> Applied {
        let mut last = None;
        for _ in 0..TRIES {
            match self.apply(work).await {
                Ok(applied) => return applied,
                Err(error @ StoreError::Unavailable { .. }) => last = Some(error),
                Err(other) => panic!("{other}"),
            }
        }
        panic!("{last:?}")
    }

    async fn runs(&mut self) -> String {
        self.person.value("SELECT count(*) FROM monitor_runs").await.unwrap()
    }
}

async fn apply(store: &SqlStore, work: &Work) -> Result<Applied, StoreError> {
    let policy = Policy { admins: Vec::new(), default_zone: chrono_tz::UTC };
    let decide = move |work: &Work, current: &_| match work {
        Work::Run(run) => decide_run(run, current, &policy),
        Work::Edit { .. } => panic!("no run"),
    };
    let node = NodeIdentity { uuid: "u".to_owned(), name: "n".to_owned() };
    Ok(store.apply(&node, std::slice::from_ref(work), &decide).await?.remove(0))
}

async fn a_way_that_is_cut_is_found_again(mut site: Site) {
    for fault in [Proxy::reset_all, Proxy::cut] {
        let before: u32 = site.runs().await.parse().unwrap();
        let work = site.run().await;
        fault(&site.proxy);
        match site.apply(&work).await {
            Ok(_) => {}
            Err(error) => {
                assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
                assert_eq!(site.runs().await, before.to_string());
            }
        }
        site.proxy.heal();
        site.must_apply_again(&work).await;
        assert_eq!(site.runs().await, (before + 1).to_string(), "once, whatever was tried");
    }
    site.store.close().await;
}

async fn a_server_that_says_nothing_is_given_up(mut site: Site) {
    let work = site.run().await;
    site.proxy.blackhole();
    let error = site.apply(&work).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    site.proxy.reset_all();
    site.proxy.heal();
    assert!(matches!(site.must_apply_again(&work).await, Applied::Written { queued: 1, .. }));
    assert_eq!(site.runs().await, "1");
    site.store.close().await;
}

/// The commit came to pass, and its answer did not arrive.
async fn a_lost_answer_to_a_commit_doubles_nothing(mut site: Site) {
    // The statements are prepared by now.
    let first = site.run().await;
    site.apply(&first).await.unwrap();
    let work = site.run().await;
    site.proxy.delay(Duration::from_millis(250));
    let (store, applied) = (Arc::clone(&site.store), work.clone());
    let applying = tokio::spawn(async move { apply(&store, &applied).await });
    while site.runs().await == "1" {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    site.proxy.cut();
    let error = applying.await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    site.proxy.delay(Duration::ZERO);
    site.proxy.heal();
    let again = site.must_apply_again(&work).await;
    assert_eq!(again, Applied::Discarded(DiscardReason::TickAlreadyApplied));
    assert_eq!(site.runs().await, "2");
    assert_eq!(site.person.value("SELECT count(*) FROM notifications").await.unwrap(), "1");
    site.store.close().await;
}

async fn a_lock_of_a_person_holds_up_nothing(mut site: Site) {
    let work = site.run().await;
    site.person.must("BEGIN").await;
    site.person.read(&format!("SELECT id FROM monitors WHERE id = {} FOR UPDATE", site.monitor)).await.unwrap();
    assert_eq!(site.apply(&work).await.unwrap(), Applied::Locked);
    assert_eq!(site.runs().await, "0");
    site.person.must("ROLLBACK").await;
    assert!(matches!(site.apply(&work).await.unwrap(), Applied::Written { queued: 1, .. }));
    site.store.close().await;
}

async fn a_restarted_server_is_found_again(mut site: Site, restarts: [&dyn Fn(); 2], url: &str) {
    for (number, restart) in restarts.iter().enumerate() {
        let work = site.run().await;
        restart();
        site.must_apply_again(&work).await;
        site.person = Person::connect(url).await.unwrap();
        assert_eq!(site.runs().await, (number + 1).to_string());
    }
    site.store.close().await;
}

macro_rules! over_the_network {
    ($module:ident, $server:ident, $options:ident) => {
        mod $module {
            use super::*;

            async fn site() -> Site {
                let server = $server::shared().await;
                Site::over(&server.fresh_database().await, server.address()).await
            }

            #[tokio::test]
            async fn a_way_that_is_cut_is_found_again() {
                super::a_way_that_is_cut_is_found_again(site().await).await;
            }

            #[tokio::test]
            async fn a_server_that_says_nothing_is_given_up() {
                super::a_server_that_says_nothing_is_given_up(site().await).await;
            }

            #[tokio::test]
            async fn a_lost_answer_to_a_commit_doubles_nothing() {
                super::a_lost_answer_to_a_commit_doubles_nothing(site().await).await;
            }

            #[tokio::test]
            async fn a_lock_of_a_person_holds_up_nothing() {
                super::a_lock_of_a_person_holds_up_nothing(site().await).await;
            }

            #[tokio::test]
            async fn a_restarted_server_is_found_again() {
                let server = $server::own($options { is_durable: true, ..Default::default() });
                let url = server.fresh_database().await;
                let site = Site::over(&url, server.address()).await;
                let killed = || {
                    server.kill_9();
                    server.start();
                };
                super::a_restarted_server_is_found_again(site, [&|| server.restart(), &killed], &url).await;
            }

            /// Nodes that start at the same time, on an empty database.
            #[tokio::test]
            async fn five_nodes_migrate_at_once() {
                let url = $server::shared().await.fresh_database().await;
                super::open_five(&url).await;
                let mut person = Person::connect(&url).await.unwrap();
                let steps =
                    person.read("SELECT version, success FROM _sqlx_migrations ORDER BY version").await.unwrap();
                assert!(steps.len() >= 3 && steps.iter().all(|step| step[1].as_deref() == Some("1")), "{steps:?}");
                if stringify!($module) == "mariadb" {
                    // A step that was broken off is applied once more, by one of them.
                    person.must("UPDATE _sqlx_migrations SET success = 0 ORDER BY version DESC LIMIT 1").await;
                    super::open_five(&url).await;
                    let after = person.read("SELECT version, success FROM _sqlx_migrations ORDER BY version").await;
                    assert_eq!(after.unwrap(), steps);
                }
                person.close().await.unwrap();
            }
        }
    };
}

over_the_network!(postgres, Postgres, PostgresOptions);
over_the_network!(mariadb, MariaDb, MariaDbOptions);

async fn open_five(url: &str) {
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let url = url.to_owned();
        opening.spawn(async move { SqlStore::open(&url, Arc::new(SystemClock)).await });
    }
    while let Some(opened) = opening.join_next().await {
        opened.unwrap().unwrap().close().await;
    }
}
