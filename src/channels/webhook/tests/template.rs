//! Bodies that a template makes.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::receiver::{Receiver, Rules};
use super::{alert, deliver, faults, recovery, self_test};
use crate::ports::DeliveryError;

fn options(template: &str) -> String {
    format!("#format=template&template={}", utf8_percent_encode(template, NON_ALPHANUMERIC))
}

fn fault(template: &str) -> String {
    faults(&format!("webhook+https://example.com/{}", options(template)))
}

#[tokio::test]
async fn quotes_and_line_ends_arrive_as_they_are() {
    let template = r#"{"text": {{ message|tojson }}, "who": {{ monitor.name|tojson }},
        "labels": {{ monitor.labels|tojson }}, "team": {{ monitor.labels.team|tojson }},
        "good": {% if type == "recovery" %}true{% else %}false{% endif %}}"#;
    let receiver = Receiver::start(Rules::default(), []).await;
    for row in [alert(), recovery(), self_test()] {
        deliver(&receiver.url(&options(template)), &row).await.unwrap();
    }
    let bodies: Vec<_> = receiver.requests().iter().map(super::receiver::Request::json).collect();
    let of = |good: bool| json!({"text": alert().facts.message, "who": "Purchase \"orders\"", "labels": {"team": "shop"}, "team": "shop", "good": good});
    let nothing = json!({"text": "", "who": null, "labels": null, "team": null, "good": false});
    assert_eq!(bodies, [of(false), of(true), nothing]);
}

#[tokio::test]
async fn it_may_make_something_else_than_json() {
    let rules = Rules { content_type: "text/plain; charset=utf-8", ..Rules::default() };
    let receiver = Receiver::start(rules, []).await;
    let url =
        receiver.url(&format!("/{}&content_type=text/plain; charset=utf-8", options("{{ subject }}: {{ message }}")));
    deliver(&url, &alert()).await.unwrap();
    let expected = format!("{}: {}", alert().subject, alert().facts.message);
    assert_eq!(receiver.requests().remove(0).body, expected.as_bytes());
}

#[test]
fn what_is_wrong_is_a_fault_of_the_url() {
    for (template, parts) in [
        ("{\"a\": {{ subject", vec!["url#template: cannot be read: syntax error", "(line 1)", "hint:"]),
        ("{{ subject|to_json }}", vec!["unknown filter", "to_json"]),
        ("{{ subjekt|tojson }}", vec!["uses `subjekt`, which no message has", "did you mean `subject`?"]),
        ("{{ monitor.nme|tojson }}", vec!["uses `monitor.nme`", "did you mean `monitor.name`?"]),
        ("{\"a\": \"{{ message }}\"}", vec!["makes no JSON of a sample of the type `alert`", "`{{ subject|tojson }}`"]),
        ("{{ message|tojson }", vec!["cannot be read"]),
        (" ", vec!["is required by the format `template`"]),
    ] {
        let text = fault(template);
        for part in parts {
            assert!(text.contains(part), "{template}: `{part}` in: {text}");
        }
    }
    let text = faults("webhook+ftp://example.com/#format=template&token=");
    assert!(
        text.contains("url: ") && text.contains("url#template: is required") && text.contains("url#token"),
        "{text}"
    );
}

#[tokio::test]
async fn what_fails_for_one_message_is_given_up_with_the_reason() {
    let loops = "{% if monitor.name == 'Endless' %}{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}{% endif %}1";
    let long = "{% if monitor.name == 'Endless' %}{{ message * 40000 }}{% else %}1{% endif %}";
    let receiver = Receiver::start(Rules::default(), []).await;
    let mut row = alert();
    row.facts.monitor_name = "Endless".to_owned();
    for (template, reason) in [(loops, "fuel"), (long, "more than 262144 bytes")] {
        let failed = deliver(&receiver.url(&options(template)), &row).await.unwrap_err();
        assert!(matches!(&failed, DeliveryError::Permanent { .. }), "{failed:?}");
        assert!(
            failed.to_string().starts_with("the template failed: ") && failed.to_string().contains(reason),
            "{failed}"
        );
        deliver(&receiver.url(&options(template)), &alert()).await.unwrap();
    }
    assert_eq!(receiver.requests().len(), 2);
}
