//! SIGTERM: what runs is written within its grace, what runs longer is dropped without a trace.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
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
    while !site.path("began").exists() {
        assert!(start.elapsed() < Duration::from_secs(30), "the plugin does not start:\n{}", site.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    std::fs::read_to_string(site.path("began")).unwrap().trim().parse().unwrap()
}

fn is_running(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

/// Processes in the group that the plugin leads, the plugin and its `sleep` among them.
fn group_members(leader: u32) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap();
    let stats = processes.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    let groups = stats.filter_map(|stat| stat.rsplit_once(") ")?.1.split(' ').nth(2)?.parse::<u32>().ok());
    groups.filter(|group| *group == leader).count()
}

#[tokio::test]
async fn a_check_that_runs_at_sigterm_is_written_and_told() {
    let site = Site::new();
    register_sleeper(&site, 2).await;
    let node = site.start();
    let plugin = until_it_sleeps(&site).await;
    let status = node.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", site.log());
    assert!(!is_running(plugin));
    assert_eq!(
        site.number("SELECT count(*) FROM monitor_runs WHERE message = 'slept' AND state_after = 'alert'").await,
        1
    );
    assert_eq!(site.number("SELECT count(*) FROM nodes").await, 0);
    // Delivery ends after the checks: what a last check owes is sent, or waits for the next start.
    let unsettled = site.number("SELECT count(*) FROM notifications WHERE status NOT IN ('sent', 'pending')").await;
    assert_eq!((unsettled, site.number("SELECT count(*) FROM notifications").await), (0, 1));
    let node = site.start();
    site.until("SELECT count(*) FROM notifications WHERE status = 'sent' AND attempts = 1", 1).await;
    assert!(node.terminate().await.success());
    assert_eq!(site.smtp.mails().len(), 1);
}

#[tokio::test]
async fn a_check_that_outlives_the_grace_is_dropped_and_run_again_at_the_next_start() {
    let mut site = Site::new();
    site.set("WATCHBELL_CHECKS__SHUTDOWN_GRACE_SECONDS", 1);
    register_sleeper(&site, 20).await;
    let node = site.start();
    let plugin = until_it_sleeps(&site).await;
    assert_eq!(group_members(plugin), 2);
    let start = Instant::now();
    let status = node.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", site.log());
    let took = start.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(8)).contains(&took), "{took:?}");
    assert_eq!(group_members(plugin), 0, "the plugin or its child is left");
    for table in
        ["SELECT count(*) FROM monitor_runs", "SELECT count(*) FROM incidents", "SELECT count(*) FROM notifications"]
    {
        assert_eq!(site.number(table).await, 0, "{table}");
    }
    assert_eq!(site.number("SELECT count(*) FROM monitors WHERE last_run_at IS NULL AND state = 'ok'").await, 1);

    std::fs::remove_file(site.path("began")).unwrap();
    let node = site.start();
    until_it_sleeps(&site).await;
    assert!(node.terminate().await.success());
}
