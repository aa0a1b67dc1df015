//! What people got, out of what the services took, and whether it is what they were owed.

use std::collections::{BTreeMap, BTreeSet};

use super::services::{Doubles, Recipient, STREAM, body};
use super::site::{Kill, Kind, Site, name};
use super::step::Step;

/// One message that a service took.
struct Taken {
    life: usize,
    kind: Kind,
    /// Whether it is a recovery that says of an alert which did not arrive.
    tells_alert: bool,
    /// What the service knows it by.
    key: Option<String>,
}

/// What became of one message to one recipient.
#[derive(Debug)]
struct Count {
    /// How often the service took it.
    taken: usize,
    /// How often it is shown.
    shown: usize,
}

/// By recipient and step: how often a node was killed there, and how many messages were shown twice for it.
pub(super) type Table = BTreeMap<(&'static str, Step), (usize, usize)>;

/// Checks all that one site told.
pub(super) fn check(site: &Site, lives: &[usize]) -> Table {
    let mut table = Table::new();
    for recipient in &site.services.recipients {
        let taken = taken_by(recipient);
        for &life in lives {
            check_life(site, recipient, life, &taken, &mut table);
        }
    }
    check_mail(site);
    check_matrix(site);
    check_redis(site);
    check_pagerduty(site, lives.len());
    let sql = "SELECT count(*) FROM notifications WHERE status NOT IN ('sent', 'merged')";
    assert_eq!(site.number(sql), 0, "all is told");
    table
}

fn check_life(site: &Site, recipient: &Recipient, life: usize, taken: &[Taken], table: &mut Table) {
    let who = format!("{} of {}", recipient.name, name(life));
    let mine: Vec<&Taken> = taken.iter().filter(|message| message.life == life).collect();
    let kinds: Vec<Kind> = mine.iter().map(|message| message.kind).collect();
    assert!(kinds.is_sorted(), "{who}: not in order: {kinds:?}");
    let is_untold = kinds.first() == Some(&Kind::Recovery);
    assert!(!is_untold || mine.iter().any(|message| message.tells_alert), "{who}: the alert is told by nothing");
    let kills: Vec<&Kill> = site.kills.iter().filter(|kill| kill.life == life).collect();
    for kind in [Kind::Alert, Kind::Reminder, Kind::Recovery] {
        let found = count(recipient, &mine, kind);
        let what = format!("{who}: {kind:?}: {found:?}");
        let Some(kill) = kills.iter().find(|kill| kill.kind == kind) else {
            // A recovery that nothing disturbed, and a reminder that may have been told with its alert.
            let most = usize::from(kind == Kind::Recovery || site.in_line.contains(&life));
            let least = usize::from(kind == Kind::Recovery);
            assert!((least..=most).contains(&found.shown), "{what}");
            continue;
        };
        let step = kill.step;
        let (least, most) = if kill.there.iter().any(|name| name == recipient.name) {
            let entry = table.entry((recipient.name, step)).or_default();
            entry.0 += 1;
            entry.1 += found.shown.saturating_sub(1);
            let in_the_gap = usize::from(step.is_in_the_gap());
            let was_taken = usize::from(step.is_in_the_gap() || step == Step::Settled);
            match kills.len() {
                1 if site.cut_off.contains(&life) => (was_taken, was_taken),
                // The recovery may come before the alert is tried again.
                1 => (was_taken, 1 + in_the_gap),
                _ => (1 + in_the_gap, 1 + in_the_gap),
            }
        } else {
            (usize::from(kills.len() > 1), site.attempts(life, kind, recipient.name))
        };
        assert!((least..=most).contains(&found.taken), "{what} at {step:?}: taken {least} to {most} times is right");
        let most_shown = if matches!(recipient.doubles, Doubles::Shown) { most } else { 1 };
        assert!((least.min(1)..=most_shown).contains(&found.shown), "{what} at {step:?}");
    }
}

fn count(recipient: &Recipient, mine: &[&Taken], kind: Kind) -> Count {
    let of_kind: Vec<_> = mine.iter().filter(|message| message.kind == kind).collect();
    let taken = of_kind.len();
    let shown = match recipient.doubles {
        Doubles::Shown => taken,
        // The fake itself says what it opened and closed.
        Doubles::Events => taken.min(1),
        Doubles::Known(_) => of_kind.iter().map(|message| &message.key).collect::<BTreeSet<_>>().len(),
    };
    Count { taken, shown }
}

fn taken_by(recipient: &Recipient) -> Vec<Taken> {
    let mut opened: BTreeMap<String, usize> = BTreeMap::new();
    let mut read = |text: &String| {
        let key = match recipient.doubles {
            Doubles::Known(key) => Some(key(text)),
            Doubles::Shown | Doubles::Events => None,
        };
        let dedup_key = || body(text)["dedup_key"].as_str().unwrap().to_owned();
        let life = match (life_of(text), recipient.doubles) {
            (Some(life), Doubles::Events) => *opened.entry(dedup_key()).or_insert(life),
            (Some(life), _) => life,
            (None, _) => opened[&dedup_key()],
        };
        Taken { life, kind: kind_of(text), tells_alert: tells_alert(text), key }
    };
    let is_to = |text: &&String| match recipient.channel_type {
        "email" => text.contains("To: ops@y.test"),
        "mailto" => text.contains("To: duty@y.test"),
        _ => true,
    };
    recipient.gate.taken().iter().filter(is_to).map(&mut read).collect()
}

fn life_of(text: &str) -> Option<usize> {
    let (_, rest) = text.split_once("torture-")?;
    rest.get(..3)?.parse().ok()
}

fn kind_of(text: &str) -> Kind {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["RECOVERED", "\"resolve\""]) {
        Kind::Recovery
    } else if says(&["still failing", "REMINDER"]) {
        Kind::Reminder
    } else {
        assert!(says(&["ALERT"]), "neither alert, reminder nor recovery: {text}");
        Kind::Alert
    }
}

fn tells_alert(text: &str) -> bool {
    ["was down", "Was down", "\"tells_alert\":true"].iter().any(|words| text.contains(words))
}

/// Both copies of a mail have one Message-ID, and the mailbox holds what went through the gate.
fn check_mail(site: &Site) {
    let mails = site.services.smtp.mails();
    assert_eq!(mails.len(), site.services.mail.taken().len());
    let mut ids: BTreeMap<(Vec<String>, String), Vec<String>> = BTreeMap::new();
    for mail in mails {
        let id = mail.header("Message-ID").unwrap();
        ids.entry((mail.rcpt.clone(), mail.subject.clone())).or_default().push(id);
    }
    for (mail, mut ids) in ids {
        ids.dedup();
        assert_eq!(ids.len(), 1, "{mail:?}");
    }
}

/// The room shows what has a transaction of its own, and no more.
fn check_matrix(site: &Site) {
    assert_eq!(site.services.homeserver.shown(&site.services.room).len(), known(site, "matrix"));
}

/// The stream holds each notification once.
fn check_redis(site: &Site) {
    assert_eq!(site.services.redis.cli(&["xlen", STREAM]), known(site, "redis-stream").to_string());
}

/// How many messages to a recipient its service can tell apart.
fn known(site: &Site, name: &str) -> usize {
    let recipient = site.services.recipients.iter().find(|recipient| recipient.name == name).unwrap();
    let keys: BTreeSet<String> = taken_by(recipient).into_iter().filter_map(|message| message.key).collect();
    keys.len()
}

/// Each incident paged once, and is closed.
fn check_pagerduty(site: &Site, lives: usize) {
    let pagerduty = site.services.pagerduty.lock().unwrap();
    assert_eq!((pagerduty.alerts.len(), pagerduty.pages), (lives, lives));
    for (key, alerts) in &pagerduty.alerts {
        assert!(alerts.iter().all(|alert| !alert.is_open), "{key}: {alerts:?}");
    }
}
