//! SIGTERM: what runs is written within its grace, what runs longer is dropped without a trace.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use super::site::Site;

/// A plugin that says that it began, sleeps, and fails.
async fn register_sleeper(site: &Site, seconds: u32) {
    let (plugin, began) = (site.path("plugins/sleeper"), site.text_path("began"));
    std::fs::write(
        &plugin,
        format!("#!/bin/sh\necho $$ > {began}.new; mv {began}.new {began}\nsleep {seconds}\necho slept; exit 2\n"),
    )
    .unwrap();
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
    site.execute(
        "INSERT INTO monitors (name, kind, schedule, config, people_to_notify) \
         VALUES ('Sleeper', 'command', '@every 1h', '{\"program\": \"sleeper\"}', '[\"ops@y.test\"]')",
    )
    .await;
}

/// Waits until the plugin runs; returns its process.
async fn until_it_sleeps(site: &Site) -> u32 {
    let start = Instant::now();
    loop {
        // The file is there before its content, and the plugin before its `sleep`.
        let began = std::fs::read_to_string(site.path("began")).unwrap_or_default();
        match began.trim().parse() {
            Ok(plugin) if group_members(plugin) == 2 => return plugin,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        assert!(start.elapsed() < Duration::from_secs(30), "the plugin does not sleep:\n{}", site.log());
    }
}

/// Living processes in the group that the plugin leads: the plugin and its `sleep`, while they run.
fn group_members(leader: u32) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap();
    let stats = processes.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    let lives_in_group = |stat: &String| {
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let (state, group) = (fields.next(), fields.nth(1));
        // A dead process whose end nobody asked for yet keeps its number.
        !matches!(state, Some("Z" | "X")) && group == Some(leader.to_string().as_str())
    };
    stats.filter(lives_in_group).count()
}

/// The kernel may take a moment to carry out a SIGKILL.
async fn until_all_ended(leader: u32) {
    let start = Instant::now();
    while group_members(leader) > 0 {
        assert!(start.elapsed() < Duration::from_secs(2), "the plugin or its child is left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_check_that_runs_at_sigterm_is_written_and_told() {
    let site = Site::new();
    register_sleeper(&site, 2).await;
    let node = site.serve().await;
    let plugin = until_it_sleeps(&site).await;
    let status = node.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", site.log());
    until_all_ended(plugin).await;
    assert_eq!(
        site.number("SELECT count(*) FROM monitor_runs WHERE message = 'slept' AND state_after = 'alert'").await,
        1
    );
    assert_eq!(site.number("SELECT count(*) FROM nodes").await, 0);
    // Delivery ends after the checks, so that what the last one owes does not wait for the next start.
    let sent = "SELECT count(*) FROM notifications WHERE type = 'alert' AND status = 'sent' AND attempts = 1";
    assert_eq!((site.number(sent).await, site.smtp.mails().len()), (1, 1));
}

#[tokio::test]
async fn a_check_that_outlives_the_grace_is_dropped_and_run_again_at_the_next_start() {
    let mut site = Site::new();
    site.set("WATCHBELL_CHECKS__SHUTDOWN_GRACE_SECONDS", 1);
    register_sleeper(&site, 20).await;
    let node = site.serve().await;
    let plugin = until_it_sleeps(&site).await;
    let start = Instant::now();
    let status = node.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", site.log());
    let took = start.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(8)).contains(&took), "{took:?}");
    until_all_ended(plugin).await;
    for table in
        ["SELECT count(*) FROM monitor_runs", "SELECT count(*) FROM incidents", "SELECT count(*) FROM notifications"]
    {
        assert_eq!(site.number(table).await, 0, "{table}");
    }
    assert_eq!(site.number("SELECT count(*) FROM monitors WHERE last_run_at IS NULL AND state = 'ok'").await, 1);

    std::fs::remove_file(site.path("began")).unwrap();
    let node = site.serve().await;
    until_it_sleeps(&site).await;
    assert!(node.terminate().await.success());
}
