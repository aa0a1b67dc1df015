//! Five hundred monitors that fail in one second: what each of three recipients receives, counted.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{wait_for, wait_for_the_end};
use crate::support::homeserver::{BOT, Homeserver};
use crate::support::node::{EVERY_SECOND, Node, RARELY, people, quoted};

const MONITORS: usize = 500;
const MAILBOXES: [&str; 2] = ["ann@x.test", "bob@x.test"];
/// One by one, the digests of a storm, the notice of a wave and what it came to: all that may reach one recipient.
const MOST_MESSAGES: usize = 26;

/// Five hundred monitors that all ask one service, and three recipients.
struct Crowd {
    node: Node,
    homeserver: Arc<Homeserver>,
    room: String,
    service: Service,
}

/// Says `well` or `ill` to whoever connects, for as long as the test runs.
struct Service {
    port: u16,
    is_well: Arc<AtomicBool>,
}

impl Service {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let service = Self { port: listener.local_addr().unwrap().port(), is_well: Arc::new(AtomicBool::new(true)) };
        let is_well = service.is_well.clone();
        // Ends with the process: it waits in `accept`.
        std::thread::spawn(move || {
            for mut caller in listener.incoming().flatten() {
                let word: &[u8] = if is_well.load(Ordering::Relaxed) { b"well\n" } else { b"ill\n" };
                // Who hung up does not want to know.
                caller.write_all(word).ok();
            }
        });
        service
    }
}

impl Crowd {
    fn start() -> Self {
        let homeserver = Homeserver::shared();
        let node = Node::new().with_mail().with("WATCHBELL_SECRET_TOKEN", &homeserver.token(BOT));
        let mut node = node.with("WATCHBELL_ADMINS", "[\"admin@x.test\"]");
        node.start();
        let room = homeserver.create_room(&[BOT]);
        let url = format!("matrix+{}#room={room}&token=${{env:WATCHBELL_SECRET_TOKEN}}", homeserver.url());
        node.sql(&format!("INSERT INTO channels (name, url) VALUES ('room', {})", quoted(&url)));
        Self { node, homeserver, room, service: Service::start() }
    }

    /// All are well.
    fn register(&self) {
        let recipients = people(&[MAILBOXES[0], MAILBOXES[1], "room"]);
        self.register_many("m", MONITORS, RARELY, self.service.port, &recipients);
        wait_for(&self.node, &format!("SELECT count(*) >= {MONITORS} FROM monitor_runs WHERE is_ok = 1"));
    }

    fn register_many(&self, name: &str, count: usize, schedule: &str, port: u16, recipients: &str) {
        self.node.sql(&format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count} - 1) \
             INSERT INTO monitors (name, kind, schedule, config, people_to_notify, required_consecutive_oks) \
             SELECT printf('{name}-%03d', n), 'tcp', {}, json_object('host', '127.0.0.1', 'port', {port}, 'expect', 'well'), {recipients}, 1 \
             FROM numbers",
            quoted(schedule)
        ));
    }

    fn recheck(&self) {
        self.node.sql("UPDATE monitors SET last_run_at = NULL WHERE name LIKE 'm-%'");
    }

    fn fail(&self) {
        self.service.is_well.store(false, Ordering::Relaxed);
        self.recheck();
        wait_for(&self.node, &format!("SELECT count(*) = {MONITORS} FROM incidents"));
    }

    fn recover(&self) {
        self.service.is_well.store(true, Ordering::Relaxed);
        self.recheck();
        wait_for(&self.node, "SELECT count(*) = 0 FROM incidents WHERE recovered_at IS NULL");
    }

    /// Subject or heading, and text, of all that a recipient got, in order.
    fn received(&self, recipient: &str) -> Vec<(String, String)> {
        if recipient == "room" {
            let shown = self.homeserver.shown(&self.room);
            let heading = |body: &str| body.lines().next().unwrap_or_default().to_owned();
            return shown.into_iter().map(|message| (heading(&message.body), message.body)).collect();
        }
        let mails = self.node.smtp().mails().into_iter().filter(|mail| mail.rcpt == [recipient]);
        mails.map(|mail| (mail.subject, mail.text.unwrap_or_default())).collect()
    }

    /// Counts and prints what each received, and holds it against what must be so.
    fn account(&self, what: &str) {
        for recipient in [MAILBOXES[0], MAILBOXES[1], "room"] {
            let received = self.received(recipient);
            let count = |words: &[&str]| {
                received.iter().filter(|(subject, _)| words.iter().any(|word| subject.contains(word))).count()
            };
            let (alerts, recoveries) = (count(&["ALERT"]), count(&["RECOVERED"]));
            let digests: Vec<&str> = received
                .iter()
                .map(|(subject, _)| subject.split_once("[Watchbell] ").map_or("", |(_, subject)| subject))
                .filter(|subject| !subject.is_empty())
                .collect();
            println!(
                "noise: {what}: {recipient}: {} messages: {alerts} alerts, {recoveries} recoveries, and {digests:?}",
                received.len()
            );
            assert!((1..=MOST_MESSAGES).contains(&received.len()), "{recipient}: {} messages", received.len());
            self.account_for_each(recipient);
            if recipient != "room" {
                assert_named_once(&received);
            }
        }
    }

    /// Each monitor's alert and recovery is one row that was told, or merged into one that was.
    fn account_for_each(&self, recipient: &str) {
        let told = self.node.sql(&format!(
            "SELECT n.type, count(*), count(DISTINCT n.monitor_id), sum(n.status = 'sent' OR t.status = 'sent') \
             FROM notifications n LEFT JOIN notifications t ON t.id = n.merged_into \
             WHERE n.recipient = '{recipient}' AND n.type IN ('alert', 'recovery') GROUP BY n.type ORDER BY n.type"
        ));
        let all = format!("{MONITORS}|{MONITORS}|{MONITORS}");
        assert_eq!(told, format!("alert|{all}\nrecovery|{all}"), "{recipient}");
        let overtaken = self.node.sql(&format!(
            "SELECT count(*) FROM notifications a JOIN notifications r ON r.incident_id = a.incident_id \
               AND r.recipient = a.recipient AND r.type = 'recovery' \
             LEFT JOIN notifications at ON at.id = a.merged_into LEFT JOIN notifications rt ON rt.id = r.merged_into \
             WHERE a.type = 'alert' AND a.recipient = '{recipient}' \
               AND coalesce(rt.sent_at, r.sent_at) < coalesce(at.sent_at, a.sent_at)"
        ));
        assert_eq!(overtaken, "0", "{recipient}: recoveries came before their alerts");
    }
}

/// Every monitor is named once as failing and once as recovered, by itself or in a list.
#[track_caller]
fn assert_named_once(received: &[(String, String)]) {
    for number in 0..MONITORS {
        let name = format!("m-{number:03}");
        let line = format!("- {name}: ");
        let named = |word: &str, digest: &str| {
            let is_it = |(subject, text): &&(String, String)| {
                *subject == format!("[Monitor {word}] {name}") || (subject.contains(digest) && text.contains(&line))
            };
            received.iter().filter(is_it).count()
        };
        assert_eq!((named("ALERT", " failing: "), named("RECOVERED", " recovered: ")), (1, 1), "{name}");
    }
}

#[test]
fn in_a_storm_everybody_gets_the_first_alerts_and_then_lists_of_all() {
    let crowd = Crowd::start();
    crowd.register();
    // Most of what the node checks is well: it is not cut off.
    let others = Service::start();
    crowd.register_many("other", 250, EVERY_SECOND, others.port, "'[]'");
    wait_for(&crowd.node, "SELECT count(*) > 1000 FROM monitor_runs WHERE cause = 'schedule'");
    crowd.fail();
    wait_for_the_end(&crowd.node);
    assert_eq!(crowd.node.number("SELECT count(*) FROM notifications WHERE type = 'notice'"), 0, "it is no wave");
    crowd.recover();
    wait_for_the_end(&crowd.node);
    crowd.account("a storm");
    for mailbox in MAILBOXES {
        let received = crowd.received(mailbox);
        let of = |word: &str| received.iter().filter(|(subject, _)| subject.starts_with(word)).count();
        assert_eq!((of("[Monitor ALERT]"), of("[Monitor RECOVERED]")), (10, 10), "the first ones by themselves");
    }
    assert_eq!(crowd.node.sql("SELECT DISTINCT status FROM notifications ORDER BY status"), "merged\nsent");
}

#[test]
fn a_node_that_is_cut_off_says_so_before_it_lists_what_fails() {
    let crowd = Crowd::start();
    crowd.register();
    // What was well is long ago.
    std::thread::sleep(std::time::Duration::from_secs(4));
    crowd.fail();
    wait_for_the_end(&crowd.node);
    crowd.recover();
    wait_for_the_end(&crowd.node);
    crowd.account("a wave");
    let notices = |recipient: &str| {
        let received = crowd.received(recipient);
        received.into_iter().map(|(subject, _)| subject).filter(|subject| subject.contains("node ")).collect::<Vec<_>>()
    };
    for recipient in [MAILBOXES[0], MAILBOXES[1], "room", "admin@x.test"] {
        let notices = notices(recipient);
        println!("noise: a wave: {recipient}: {notices:?}");
        assert_eq!(notices.len(), 2, "{recipient}: {notices:?}");
        assert!(notices[0].contains("looks cut off") && notices[1].contains(": confirmed, "), "{notices:?}");
    }
    assert_eq!(crowd.node.sql("SELECT DISTINCT status FROM notifications ORDER BY status"), "merged\nsent");
}

#[test]
fn a_wave_that_is_over_soon_is_told_as_that() {
    let crowd = Crowd::start();
    crowd.register();
    std::thread::sleep(std::time::Duration::from_secs(4));
    crowd.fail();
    crowd.recover();
    wait_for_the_end(&crowd.node);
    for recipient in [MAILBOXES[0], MAILBOXES[1], "room", "admin@x.test"] {
        let received = crowd.received(recipient);
        let subjects: Vec<&String> = received.iter().map(|(subject, _)| subject).collect();
        println!("noise: a short wave: {recipient}: {subjects:?}");
        assert!((2..=MOST_MESSAGES).contains(&subjects.len()), "{subjects:?}");
        assert!(subjects.iter().any(|subject| subject.contains("looks cut off")), "{subjects:?}");
        assert!(subjects.iter().any(|subject| subject.contains(": over, 0 of ")), "{subjects:?}");
    }
    // Who was told of a monitor is told of its recovery; who was not is told of neither.
    let wrong = "SELECT count(*) FROM notifications a JOIN notifications r ON r.incident_id = a.incident_id \
         AND r.recipient = a.recipient AND r.type = 'recovery' WHERE a.type = 'alert' \
         AND (a.status IN ('sent', 'merged')) <> (r.status IN ('sent', 'merged'))";
    assert_eq!(crowd.node.number(wrong), 0);
}
