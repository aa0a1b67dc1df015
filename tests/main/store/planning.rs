//! Planning: what there is to plan, what a plan decides from, and that each of its steps is written as it says.

use chrono::{DateTime, TimeDelta, Utc};
use watchbell::domain::planning::{Candidate, Situation, Sort, Step};
use watchbell::domain::{
    Facts, Hold, HoldReason, NewNotification, NotificationId, NotificationStatus, NotificationType, Settlement,
};
use watchbell::ports::PlanRequest;
use watchbell_contract::{Outcome, Severity};

use super::bench::{Bench, sql_time};
use super::delivery::{ME, claim, settle};

/// Plans with a plan of the test's own.
async fn plan(bench: &Bench, decide: impl Fn(&[Candidate], Situation) -> Vec<Step> + Send + Sync + 'static) -> usize {
    let request =
        PlanRequest { limit: 500, look_back: TimeDelta::minutes(5), cut_off_monitors: 20, admins: Vec::new() };
    bench.store().plan_notifications(&request, &decide).await.unwrap()
}

async fn steps(bench: &Bench, steps: Vec<Step>) {
    plan(bench, move |_, _| steps.clone()).await;
}

fn hold(bench: &Bench, id: i64, minutes: i64, reason: HoldReason) -> Step {
    Step::Hold { id: NotificationId(id), hold: Hold { until: bench.now() + TimeDelta::minutes(minutes), reason } }
}

fn message(subject: &str, hold: Option<Hold>) -> Box<NewNotification> {
    Box::new(NewNotification {
        notification_type: NotificationType::Digest,
        severity: Severity::Warning,
        recipient: "ann@example.com".to_owned(),
        subject: subject.to_owned(),
        body: "all of it".to_owned(),
        facts: Facts { count: 2, ..Facts::default() },
        rule: "digest of storm".to_owned(),
        origin: "storm".to_owned(),
        hold,
    })
}

async fn status(bench: &Bench, id: i64) -> String {
    bench.value(&format!("SELECT status FROM notifications WHERE id = {id}")).await
}

async fn events(bench: &Bench, id: i64) -> Vec<String> {
    bench.read(&format!("SELECT event, detail FROM notification_events WHERE notification_id = {id} ORDER BY id")).await
}

fn text(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

pub(crate) async fn the_outlook_tells_what_there_is_to_plan_and_to_send(bench: &Bench) {
    let nothing = bench.store().outlook().await.unwrap();
    assert!(nothing.lanes.is_empty() && !nothing.is_unplanned && nothing.held_until.is_none());
    let [mail, room_one, held] = [
        bench.queue("alert", "ann@example.com").await,
        bench.queue("alert", "room").await,
        bench.queue("alert", "bob@example.com").await,
    ];
    let unplanned = bench.store().outlook().await.unwrap();
    assert!(unplanned.lanes.is_empty() && unplanned.is_unplanned, "nothing is sent before it is planned");
    let until = bench.now() + TimeDelta::minutes(7);
    let sends = [mail, room_one].map(|id| Step::Send { id: NotificationId(id), waits_for: None });
    steps(bench, [&sends[..], &[hold(bench, held, 7, HoldReason::QuietHours)]].concat()).await;
    let planned = bench.store().outlook().await.unwrap();
    let lanes: Vec<_> = planned.lanes.iter().map(|due| (due.lane.as_str(), due.at)).collect();
    assert_eq!(lanes, [("@", bench.now()), ("room", bench.now())]);
    assert_eq!((planned.is_unplanned, planned.held_until), (false, Some(until)));
}

pub(crate) async fn a_plan_decides_from_what_it_is_shown(bench: &Bench) {
    let monitor = bench.insert(&[("people_to_notify", r#"'["ann@example.com"]'"#)]).await;
    // MySQL takes 512 characters out of JSON, where it is not asked for more.
    let long = "\u{e4}".repeat(1_000);
    let run = bench.tick(monitor, Outcome::failed(long.clone())).await;
    bench.apply(run).await;
    let sent = claim(bench, ME, 1).await;
    settle(
        bench,
        ME,
        sent[0].id,
        Settlement::Sent { at: bench.now(), answer: "ok".into(), external_id: Some("x1".into()) },
    )
    .await;
    bench.sql("UPDATE monitors SET reminder_frequency_minutes = 0, required_consecutive_oks = 1").await;
    bench.fail(monitor).await;
    let now = bench.now();
    let looked_at = plan(bench, move |candidates, situation| {
        let [candidate] = candidates else { panic!("{candidates:?}") };
        assert_eq!((candidate.notification_type, candidate.hold), (NotificationType::Reminder, None));
        assert_eq!((candidate.monitor_id, candidate.facts.monitor_name.as_str()), (Some(monitor), "Orders arrive"));
        assert_eq!(candidate.origin, format!("monitor {monitor}"));
        let [alert] = &candidate.siblings[..] else { panic!("{candidate:?}") };
        assert_eq!((alert.notification_type, alert.status), (NotificationType::Alert, NotificationStatus::Sent));
        assert_eq!(alert.message, long);
        let recent = &situation.recent["ann@example.com"];
        assert_eq!((recent.len(), recent[0].sort, recent[0].external_id.as_deref()), (1, Sort::Trouble, Some("x1")));
        assert_eq!((situation.now, recent[0].origin.as_str()), (now, candidate.origin.as_str()));
        let until = now + TimeDelta::minutes(1);
        vec![Step::Hold { id: candidate.id, hold: Hold { until, reason: HoldReason::Repetition } }]
    })
    .await;
    assert_eq!(looked_at, 1);
    assert_eq!(plan(bench, |candidates, _| panic!("{candidates:?}")).await, 0, "held until its time comes");
    bench.succeed(monitor).await;
    plan(bench, |candidates, situation| {
        let [reminder, recovery] = candidates else { panic!("{candidates:?}") };
        assert_eq!((reminder.hold, reminder.is_over), (Some(HoldReason::Repetition), true));
        assert_eq!((recovery.notification_type, recovery.siblings.len()), (NotificationType::Recovery, 2));
        let held = &situation.held[&("ann@example.com".to_owned(), HoldReason::Repetition)];
        assert_eq!((held.len(), held[0].is_over, held[0].monitor_name.as_str()), (1, true, "Orders arrive"));
        Vec::new()
    })
    .await;
}

pub(crate) async fn what_is_sent_or_held_says_since_when_and_why(bench: &Bench) {
    let id = bench.queue("alert", "ann@example.com").await;
    let until = text(bench.now() + TimeDelta::minutes(3));
    steps(bench, vec![hold(bench, id, 3, HoldReason::Silence(4))]).await;
    let columns = "status, hold_reason, next_attempt_at, planned_at";
    let row = format!("SELECT {columns} FROM notifications WHERE id = {id}");
    let shown = bench.database.shown_time(bench.now() + TimeDelta::minutes(3));
    assert_eq!(bench.value(&row).await, format!("held|silence 4|{shown}|-"));
    assert_eq!(events(bench, id).await, [format!("held|silence 4 until {until}")]);
    assert!(claim(bench, ME, 10).await.is_empty());
    // Held on for the same reason is no news; for another it is.
    bench.pass_minutes(3);
    steps(bench, vec![hold(bench, id, 2, HoldReason::Silence(4))]).await;
    assert_eq!(events(bench, id).await.len(), 1);
    bench.pass_minutes(2);
    let until = text(bench.now() + TimeDelta::minutes(1));
    steps(bench, vec![hold(bench, id, 1, HoldReason::Dependency(Some(9)))]).await;
    assert_eq!(events(bench, id).await[1], format!("held|dependency 9 until {until}"));
    let planned = bench.pass_minutes(1);
    let planned = bench.database.shown_time(planned);
    steps(bench, vec![Step::Send { id: NotificationId(id), waits_for: None }]).await;
    let due = bench.value(&row).await;
    assert_eq!(due, format!("pending|-|{planned}|{planned}"), "by itself, now");
    assert_eq!(events(bench, id).await[2], "released|dependency 9");
    assert_eq!(claim(bench, ME, 10).await[0].id.0, id);
}

pub(crate) async fn what_does_not_go_out_says_why(bench: &Bench) {
    let [withdrawn, one, other, into] = [
        bench.queue("alert", "ann@example.com").await,
        bench.queue("alert", "ann@example.com").await,
        bench.queue("reminder", "ann@example.com").await,
        bench.queue("recovery", "ann@example.com").await,
    ];
    let facts = Facts { message: "both".to_owned(), tells_alert: true, ..Facts::default() };
    let ids = [one, other].map(NotificationId);
    let retell = Step::Retell {
        id: NotificationId(into),
        subject: "new subject".to_owned(),
        body: "new body".to_owned(),
        facts: Box::new(facts.clone()),
    };
    let merge = |ids: &[NotificationId], into| Step::Merge { ids: ids.to_vec(), into: NotificationId(into) };
    steps(
        bench,
        vec![
            Step::Withdraw { id: NotificationId(withdrawn), why: "it is no longer true" },
            merge(&ids[..1], other),
            merge(&ids[1..], into),
            retell,
            Step::Send { id: NotificationId(into), waits_for: None },
        ],
    )
    .await;
    assert_eq!(status(bench, withdrawn).await, "withdrawn");
    assert_eq!(events(bench, withdrawn).await, ["withdrawn|it is no longer true"]);
    let merged = bench.read("SELECT id, merged_into FROM notifications WHERE status = 'merged' ORDER BY id").await;
    assert_eq!(merged, [format!("{one}|{into}"), format!("{other}|{into}")], "each names what tells it in the end");
    assert_eq!(events(bench, one).await, [format!("merged|into notification {other}")]);
    assert_eq!(events(bench, other).await, [format!("merged|into notification {into}")]);
    let claimed = claim(bench, ME, 10).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].subject.as_str(), claimed[0].body.as_str()), ("new subject", "new body"));
    assert_eq!(claimed[0].facts, facts);
}

pub(crate) async fn new_messages_of_a_plan_are_queued_and_digests_keep_their_order(bench: &Bench) {
    let [one, other] = [bench.queue("alert", "ann@example.com").await, bench.queue("alert", "ann@example.com").await];
    let hold = Hold { until: bench.now() + TimeDelta::minutes(1), reason: HoldReason::CutOff };
    let digest = |subject: &str, id: i64, edits: Option<&str>| Step::Digest {
        message: message(subject, None),
        members: vec![NotificationId(id)],
        edits: edits.map(str::to_owned),
    };
    let queue_held = Step::Queue { message: message("later", Some(hold)) };
    steps(bench, vec![digest("first", one, Some("x9")), digest("second", other, None), queue_held]).await;
    let rows = bench.read("SELECT subject, status, rule, origin, hold_reason FROM notifications WHERE subject IN ('first', 'second', 'later') ORDER BY id").await;
    let queued = |subject: &str| format!("{subject}|pending|digest of storm|storm|-");
    assert_eq!(rows, [queued("first"), queued("second"), "later|held|digest of storm|storm|cut_off".to_owned()]);
    let told_by = "SELECT d.subject FROM notifications n JOIN notifications d ON d.id = n.merged_into ORDER BY n.id";
    assert_eq!(bench.read(told_by).await, ["first", "second"]);
    // An older digest that is tried again holds up the newer one, and so whatever waits for that.
    let first = claim(bench, ME, 10).await;
    assert_eq!(first.iter().map(|row| row.subject.as_str()).collect::<Vec<_>>(), ["first"]);
    assert_eq!((first[0].edits_external_id.as_deref(), first[0].facts.count), (Some("x9"), 2));
    let later = bench.now() + TimeDelta::minutes(10);
    settle(bench, ME, first[0].id, Settlement::Retry { next_attempt_at: later, error: "busy".into() }).await;
    assert!(claim(bench, ME, 10).await.is_empty());
    bench.pass_minutes(10);
    let again = claim(bench, ME, 10).await;
    settle(bench, ME, again[0].id, Settlement::Failed { error: "gone".into() }).await;
    assert_eq!(claim(bench, ME, 10).await[0].subject, "second", "settled is settled");
}

pub(crate) async fn a_message_waits_for_its_digest(bench: &Bench) {
    let [digest, recovery] =
        [bench.queue("digest", "ann@example.com").await, bench.queue("recovery", "ann@example.com").await];
    let send =
        |id, waits_for: Option<i64>| Step::Send { id: NotificationId(id), waits_for: waits_for.map(NotificationId) };
    steps(bench, vec![send(digest, None), send(recovery, Some(digest))]).await;
    let claimed = claim(bench, ME, 10).await;
    assert_eq!(claimed.iter().map(|row| row.id.0).collect::<Vec<_>>(), [digest]);
    settle(bench, ME, claimed[0].id, Settlement::Sent { at: bench.now(), answer: String::new(), external_id: None })
        .await;
    assert_eq!(claim(bench, ME, 10).await[0].id.0, recovery);
}

pub(crate) async fn a_bad_row_alone_is_given_up_for_good(bench: &Bench) {
    let id = bench.queue("telegram", "ann@example.com").await;
    assert_eq!(plan(bench, |candidates, _| panic!("{candidates:?}")).await, 0);
    assert_eq!(status(bench, id).await, "failed");
    assert!(!bench.store().outlook().await.unwrap().is_unplanned, "it is not found again at every look");
}

/// Read as what stands beside another message, too.
pub(crate) async fn a_bad_row_keeps_no_other_from_being_planned(bench: &Bench) {
    let monitor = bench.insert_simple().await;
    bench.sql("UPDATE monitors SET reminder_frequency_minutes = 0").await;
    bench.fail(monitor).await;
    bench.refused_for("UPDATE notifications SET facts = 'not json'", "facts").await;
    let by_hand = "UPDATE notifications SET status = 'held', hold_reason = 'lunch', facts = '{\"message\": 5}', \
                   next_attempt_at = '2100-01-01 00:00:00'";
    bench.sql(by_hand).await;
    bench.fail(monitor).await;
    let planned = plan(bench, |candidates, _| {
        assert_eq!(candidates[0].siblings.len(), 1);
        vec![Step::Send { id: candidates[0].id, waits_for: None }]
    });
    assert_eq!(planned.await, 1);
}

/// A reminder that another row tells, which is held, told nobody.
pub(crate) async fn who_was_told_nothing_is_owed_no_recovery(bench: &Bench) {
    let monitor = bench.insert_simple().await;
    bench.sql("UPDATE monitors SET reminder_frequency_minutes = 0").await;
    bench.fail(monitor).await;
    let alert: i64 = bench.value("SELECT max(id) FROM notifications").await.parse().unwrap();
    steps(bench, vec![hold(bench, alert, 600, HoldReason::Silence(1))]).await;
    bench.fail(monitor).await;
    steps(bench, vec![Step::Merge { ids: vec![NotificationId(alert + 1)], into: NotificationId(alert) }]).await;
    let rows = bench.read("SELECT type, status, merged_into FROM notifications ORDER BY id").await;
    assert_eq!(rows, ["alert|held|-".to_owned(), format!("reminder|merged|{alert}")]);
    bench.succeed(monitor).await;
    assert_eq!(bench.value("SELECT count(*) FROM notifications WHERE type = 'recovery'").await, "0");
}

pub(crate) async fn held_ones_are_looked_at_when_their_time_comes_and_no_sooner(bench: &Bench) {
    let id = bench.queue("alert", "room").await;
    steps(bench, vec![hold(bench, id, 5, HoldReason::ChannelOff)]).await;
    bench.pass(TimeDelta::minutes(5) - TimeDelta::milliseconds(1));
    assert_eq!(plan(bench, |candidates, _| panic!("{candidates:?}")).await, 0);
    bench.pass(TimeDelta::milliseconds(1));
    let again = hold(bench, id, 5, HoldReason::ChannelOff);
    let written = plan(bench, move |candidates, _| {
        assert_eq!(candidates[0].hold, Some(HoldReason::ChannelOff));
        vec![again.clone()]
    });
    assert_eq!(written.await, 1);
    // Somebody wants it sent at once.
    bench
        .sql(&format!("UPDATE notifications SET status = 'pending', next_attempt_at = {}", sql_time(bench.now())))
        .await;
    assert!(bench.store().outlook().await.unwrap().is_unplanned, "it was never planned, so it is looked at");
}
