//! Monitors that depend on others: the parent's alert names them, and theirs wait for it.

use std::time::{Duration, Instant};

use super::{recover, wait_for_newest, wait_for_the_end};
use crate::support::node::{Node, RARELY, people};

const ALERT: &str = "[Monitor ALERT]";
const RECOVERED: &str = "[Monitor RECOVERED]";

fn node() -> Node {
    let mut node = Node::new().with_mail();
    node.start();
    node
}

/// Monitors that are well, by these names.
fn well(node: &Node, names: &[&str]) -> Vec<i64> {
    let columns = [("people_to_notify", people(&["ops@x.test"])), ("required_consecutive_oks", "1".to_owned())];
    let columns = columns.each_ref().map(|(column, value)| (*column, &**value));
    let monitors: Vec<i64> = names.iter().map(|name| node.register(name, RARELY, &columns)).collect();
    monitors.iter().for_each(|monitor| node.wait_for_runs(*monitor, 1));
    monitors
}

fn depends(node: &Node, child: i64, parent: i64) {
    node.sql(&format!("INSERT INTO dependencies (child_id, parent_id) VALUES ({child}, {parent})"));
}

#[test]
fn children_wait_for_their_parent_and_only_those_that_still_fail_are_told() {
    let node = node();
    let names = ["switch", "mail", "files", "wiki", "shop", "till"];
    let monitors = well(&node, &names);
    let (parent, children) = (monitors[0], &monitors[1..]);
    children.iter().for_each(|child| depends(&node, *child, parent));
    names.iter().for_each(|name| node.break_with(name, "no answer"));
    node.sql("UPDATE monitors SET last_run_at = NULL");
    node.wait_for_truth("SELECT count(*) = 6 FROM monitors WHERE state = 'alert'");
    let held = format!("alert held dependency {parent}");
    children.iter().for_each(|child| wait_for_newest(&node, *child, &held));
    let [alert] = &node.wait_for_mails("switch", 1)[..] else { panic!("not one mail") };
    let text = alert.text.as_deref().unwrap_or_default();
    for name in &names[1..] {
        assert!(text.contains(name), "{text}");
    }
    // Two are back before their parent.
    recover(&node, "mail", children[0]);
    recover(&node, "files", children[1]);
    assert_eq!(node.smtp().mails().len(), 1, "the children's own alerts wait");
    recover(&node, "switch", parent);
    wait_for_the_end(&node);
    for name in &names[3..] {
        assert_eq!(node.told(name), [ALERT], "{name} still fails");
    }
    for name in &names[1..3] {
        assert_eq!(node.told(name), [""; 0], "{name} was back before its parent");
    }
    assert_eq!(node.told("switch"), [ALERT, RECOVERED]);
    for (name, monitor) in names.iter().zip(&monitors).skip(3) {
        recover(&node, name, *monitor);
    }
    wait_for_the_end(&node);
    for name in &names[3..] {
        assert_eq!(node.told(name), [ALERT, RECOVERED], "{name}");
    }
    let of_two = "SELECT group_concat(DISTINCT n.type || ' ' || n.status) FROM notifications n \
        JOIN monitors m ON m.id = n.monitor_id WHERE m.name IN ('mail', 'files')";
    assert_eq!(node.sql(of_two), "alert withdrawn");
}

#[test]
fn a_child_that_fails_alone_is_told_as_soon_as_its_parents_were_asked() {
    let node = node();
    let monitors = well(&node, &["switch", "router", "shop"]);
    let (parents, child) = (&monitors[..2], monitors[2]);
    parents.iter().for_each(|parent| depends(&node, child, *parent));
    let began = Instant::now();
    node.break_with("shop", "no answer");
    node.recheck(child);
    node.wait_for_mails("shop", 1);
    let waited = began.elapsed();
    println!("noise: the alert of a child whose parents are well came {waited:?} after the recheck was asked for");
    assert!(waited < Duration::from_secs(6), "{waited:?}");
    for parent in parents {
        let asked = format!(
            "SELECT count(*) = 1 FROM monitor_runs WHERE monitor_id = {parent} AND cause = 'dependency' AND is_ok = 1"
        );
        node.wait_for_truth(&asked);
    }
    let late = "SELECT (julianday(n.planned_at) - julianday(n.created_at)) * 86400 > 3.5 \
        FROM notifications n JOIN monitors m ON m.id = n.monitor_id WHERE m.name = 'shop'";
    assert_eq!(node.number(late), 0, "it waits for three seconds at most");
    recover(&node, "shop", child);
    wait_for_the_end(&node);
    assert_eq!(node.told("shop"), [ALERT, RECOVERED]);
}

#[test]
fn a_parent_that_is_found_down_when_it_is_asked_holds_its_child() {
    let node = node();
    let monitors = well(&node, &["switch", "shop"]);
    depends(&node, monitors[1], monitors[0]);
    // Nobody has noticed yet that the parent is down.
    node.break_with("switch", "no answer");
    node.break_with("shop", "no answer");
    node.recheck(monitors[1]);
    wait_for_newest(&node, monitors[1], &format!("alert held dependency {}", monitors[0]));
    node.wait_for_mails("switch", 1);
    assert_eq!(node.told("shop"), [""; 0]);
    recover(&node, "shop", monitors[1]);
    recover(&node, "switch", monitors[0]);
    wait_for_the_end(&node);
    assert_eq!((node.told("shop"), node.told("switch").len()), (vec![], 2));
}

#[test]
fn monitors_that_depend_on_each_other_both_tell() {
    let node = node();
    let monitors = well(&node, &["hen", "egg"]);
    depends(&node, monitors[0], monitors[1]);
    depends(&node, monitors[1], monitors[0]);
    node.break_with("hen", "no answer");
    node.break_with("egg", "no answer");
    node.sql("UPDATE monitors SET last_run_at = NULL");
    node.wait_for_mails("hen", 1);
    node.wait_for_mails("egg", 1);
    recover(&node, "hen", monitors[0]);
    recover(&node, "egg", monitors[1]);
    wait_for_the_end(&node);
    for name in ["hen", "egg"] {
        assert_eq!(node.told(name), [ALERT, RECOVERED], "{name}");
    }
}
