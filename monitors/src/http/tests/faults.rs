//! Configs that are refused.

use serde_json::{Value, json};

use super::prepare;

#[test]
fn each_fault_is_named_with_its_key() {
    for (more, says) in [
        (json!({"url": null}), "config.url: is required"),
        (json!({"url": "shop.example.com"}), "config.url: expected a URL"),
        (json!({"url": "ftp://example.com/"}), "found the scheme `ftp`"),
        (json!({"url": "https://ops:hunter2@example.com/"}), "a user name or password may not stand in it"),
        (json!({"url": "https://example.com/?t=${env:TOKEN}"}), "config.url: a secret reference may not stand here"),
        (json!({"method": "GETT"}), "did you mean \"GET\"?"),
        (json!({"method": "HEAD", "body_contains": "x"}), "the answer to HEAD has no body"),
        (json!({"headers": {"a b": "x"}}), "config.headers.a b: is not a header's name"),
        (json!({"headers": {"A": "x\ny"}}), "config.headers.A: holds a line break"),
        (json!({"headers": {"Accept": "x", "accept": "y"}}), "is given twice"),
        (json!({"headers": {"Content-Length": "5"}}), "config.headers.Content-Length: is written by Watchbell itself"),
        (json!({"basic_auth": {"username": "ops"}}), "config.basic_auth.password: is required"),
        (json!({"basic_auth": {"password": "x"}}), "config.basic_auth.username: is required"),
        (json!({"basic_auth": {"username": "a:b", "password": "x"}}), "config.basic_auth.username: may not hold a `:`"),
        (
            json!({"basic_auth": {"username": "a", "password": "x"}, "bearer_token": "x"}),
            "config.bearer_token: only one",
        ),
        (json!({"headers": {"authorization": "x"}, "bearer_token": "x"}), "config.bearer_token: only one"),
        (json!({"status": "ok"}), "config.status: expected a status, a range"),
        (json!({"status": []}), "config.status: expected a status, a range"),
        (
            json!({"body_matches": "("}),
            "config.body_matches: expected a regular expression, found `(`: unclosed group (hint",
        ),
        (json!({"body_contains": ""}), "config.body_contains: an empty text"),
        (json!({"json": [{"equals": 1}]}), "config.json[0].path: is required"),
        (json!({"json": [{"path": "status"}]}), "config.json[0].path: expected a JSONPath, found `status`"),
        (json!({"json": [{"path": "$.a", "min": 2, "max": 1}]}), "config.json[0].min: is greater than `max`"),
        (json!({"json": [{"path": "$.a", "exists": false, "equals": 1}]}), "config.json[0].exists: false leaves"),
        (json!({"json": [{"path": "$.a", "mx": 1}]}), "config.json[0].mx: is not a parameter"),
        (json!({"max_response_ms": 0}), "config.max_response_ms: expected a whole number from 1"),
        (
            json!({"min_certificate_days": 14, "url": "http://example.com/"}),
            "config.min_certificate_days: needs an https",
        ),
        (json!({"follow_redirects": false, "max_redirects": 3}), "config.max_redirects: contradicts"),
        (json!({"ip_version": 5}), "config.ip_version: expected 4 or 6"),
        (
            json!({"ip_version": 6, "url": "http://127.0.0.1/"}),
            "the URL names the address `127.0.0.1`, which is no IPv6",
        ),
        (json!({"ip_version": 4, "url": "http://[::1]/"}), "the URL names the address `::1`, which is no IPv4"),
        (json!({"ca_file": "ca.pem"}), "config.ca_file: expected an absolute path"),
        (json!({"ca_file": "/ca.pem", "verify_certificate": false}), "config.ca_file: contradicts"),
    ] {
        let mut config = json!({"url": "https://example.com/"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let faults = refused(&config);
        assert!(faults.contains(says), "`{says}` is missing in: {faults}");
        assert!(!faults.contains("hunter2"), "{faults}");
        assert_eq!(faults.matches("config.").count(), 1, "one fault only: {faults}");
    }
}

#[test]
fn all_faults_come_at_once() {
    let faults = refused(&json!({"url": "nonsense", "status": "x", "ip_version": 5, "bearer": "x"}));
    for key in ["config.url", "config.status", "config.ip_version", "config.bearer"] {
        assert!(faults.contains(key), "{faults}");
    }
}

fn refused(config: &Value) -> String {
    match prepare(config) {
        Ok(_) => panic!("accepted: {config}"),
        Err(faults) => faults,
    }
}
