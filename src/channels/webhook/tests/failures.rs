//! What comes of answers that are no success, and of none.

use std::time::Duration;

use super::receiver::{Receiver, Reply, Rules, answer};
use super::{KEY, TOKEN, alert, deliver};
use crate::domain::OutboxRow;
use crate::ports::DeliveryError;

async fn failure(answer: String) -> DeliveryError {
    let receiver = Receiver::start(Rules::default(), [Reply::Answer(answer)]).await;
    let failure = deliver(&receiver.url("/"), &alert()).await.unwrap_err();
    assert_eq!(receiver.requests().len(), 1, "a channel tries once");
    failure
}

#[tokio::test]
async fn answers_are_told_apart() {
    let waits = Some(Duration::from_secs(7));
    let failed = failure(answer("429 Too Many Requests", "retry-after: 7\r\n", "slow down")).await;
    let reason = "the service answered 429 Too Many Requests: slow down".to_owned();
    assert_eq!(failed, DeliveryError::Unavailable { reason, after: waits });

    let failed = failure(answer("409 Conflict", "retry-after: 7\r\n", "still at it")).await;
    let reason = "the service answered 409 Conflict: still at it".to_owned();
    assert_eq!(failed, DeliveryError::Retry { reason, after: waits });

    let failed = failure(answer("400 Bad Request", "", "no such field")).await;
    let reason = "the service answered 400 Bad Request: no such field".to_owned();
    assert_eq!(failed, DeliveryError::Permanent { reason });

    for status in ["500 Internal Server Error", "503 Service Unavailable", "401 Unauthorized", "404 Not Found"] {
        let failed = failure(answer(status, "", "")).await;
        assert!(matches!(&failed, DeliveryError::Unavailable { .. }), "{failed:?}");
        assert!(failed.to_string().starts_with(&format!("the service answered {status}")), "{failed}");
    }
}

#[tokio::test]
async fn any_2xx_is_a_success() {
    for status in ["201 Created", "202 Accepted", "204 No Content"] {
        let receiver = Receiver::start(Rules::default(), [Reply::Answer(format!("HTTP/1.1 {status}\r\n\r\n"))]).await;
        assert_eq!(deliver(&receiver.url("/"), &alert()).await.unwrap().answer, status);
    }
}

#[tokio::test]
async fn a_redirect_is_refused() {
    let elsewhere = Receiver::start(Rules::default(), []).await;
    for status in ["302 Found", "307 Temporary Redirect"] {
        let location = format!("location: http://{}/\r\n", elsewhere.address());
        let failed = failure(answer(status, &location, "")).await;
        assert!(matches!(&failed, DeliveryError::Unavailable { .. }), "{failed:?}");
        assert!(failed.to_string().contains("a redirect is not followed"), "{failed}");
    }
    assert_eq!(elsewhere.requests().len(), 0);
}

#[tokio::test]
async fn a_cut_answer_is_tried_again_and_shown_once() {
    let rules = Rules { hmac_key: Some(KEY), ..Rules::default() };
    let receiver = Receiver::start(rules, [Reply::TakeAndCut]).await;
    let url = receiver.url("/#hmac_key=${env:KEY}");
    let failed = deliver(&url, &alert()).await.unwrap_err();
    assert!(matches!(&failed, DeliveryError::Unavailable { .. }), "{failed:?}");
    assert!(!failed.to_string().contains("127.0.0.1"), "{failed}");

    deliver(&url, &OutboxRow { attempts: 2, ..alert() }).await.unwrap();
    assert_eq!(receiver.taken_and_doubled(), (1, 1), "the second attempt has the key of the first");
    let requests = receiver.requests();
    let attempts: Vec<_> = requests.iter().map(|request| request.headers["x-watchbell-attempt"].as_str()).collect();
    assert_eq!(attempts, ["1", "2"]);
    assert_eq!(requests[0].body, requests[1].body, "a body is the same at every attempt");
}

#[tokio::test]
async fn nobody_is_waited_for_longer_than_the_bound() {
    let receiver = Receiver::start(Rules::default(), [Reply::Hang]).await;
    let url = receiver.url("/hook");
    let delivery = tokio::spawn(async move { deliver(&url, &alert()).await });
    receiver.has_request.notified().await;
    tokio::time::pause();
    // From here on the clock jumps to whatever is waited for.
    let begun = tokio::time::Instant::now();
    let failed = delivery.await.unwrap().unwrap_err();
    let waited = begun.elapsed();
    assert!(waited > Duration::from_secs(18) && waited < Duration::from_secs(22), "{waited:?}");
    assert!(matches!(&failed, DeliveryError::Unavailable { .. }), "{failed:?}");
    assert!(failed.to_string().contains("did not answer in time"), "{failed}");
}

#[tokio::test]
async fn a_wrong_key_or_token_is_mended_by_a_person() {
    let rules = Rules { hmac_key: Some(KEY), token: Some(TOKEN), ..Rules::default() };
    let receiver = Receiver::start(rules, []).await;
    for (options, reason) in [
        ("hmac_key=wr0ng&token=${env:TOKEN}", "the signature is another one"),
        ("hmac_key=${env:KEY}&token=wr0ng", "wrong token"),
        ("hmac_key=${env:KEY}", "wrong token"),
        ("token=${env:TOKEN}", "no timestamp"),
        ("hmac_key=${env:EMPTY}", "the secret of `hmac_key` is empty"),
        ("token=${env:LINES}", "the secret of `token` holds characters"),
    ] {
        let failed = deliver(&receiver.url(&format!("/#{options}")), &alert()).await.unwrap_err();
        assert!(matches!(&failed, DeliveryError::Unavailable { .. }), "{failed:?}");
        assert!(failed.to_string().contains(reason), "{options}: {failed}");
    }
    assert_eq!(receiver.requests().len(), 0);
}

#[tokio::test]
async fn an_address_with_a_user_and_a_token_is_refused() {
    let receiver = Receiver::start(Rules::default(), []).await;
    let url = format!("webhook+http://me:p4ssw0rd@{}/#token=x", receiver.address());
    let failed = deliver(&url, &alert()).await.unwrap_err().to_string();
    assert!(failed.contains("keep one") && !failed.contains("p4ssw0rd"), "{failed}");
    assert_eq!(receiver.requests().len(), 0);
}

#[tokio::test]
async fn repeated_secrets_are_hidden() {
    let secrets = ["p4th", KEY, "k3y", TOKEN, "t0ken", "qu3ry", "p4ssw0rd", "bWU6cDRzc3cwcmQ=", "l0ng-hook-name"];
    for status in ["200 OK", "400 Bad Request", "409 Conflict", "404 Not Found", "503 Service Unavailable"] {
        let script = || [Reply::Echo(status), Reply::Echo(status)];
        let with_token = Receiver::start(Rules::default(), script()).await;
        let address = "/l0ng-hook-name/${env:PATH}?key=qu3ry%20y";
        let url = with_token.url(&format!("{address}#token=${{env:TOKEN}}"));
        let with_user = format!("webhook+http://me:p4ssw0rd@{}{address}", with_token.address());
        for url in [url, with_user] {
            let said = match deliver(&url, &alert()).await {
                Ok(delivered) => delivered.answer,
                Err(failed) => failed.to_string(),
            };
            assert!(said.contains("***"), "{said}");
            let shown: Vec<_> = secrets.iter().filter(|secret| said.contains(**secret)).collect();
            assert!(shown.is_empty(), "{shown:?} in: {said}");
        }
        assert_eq!(with_token.requests().len(), 2);
    }
}

/// A receiver may say anything about a signature that it did not accept, also what it should have been made with.
#[tokio::test]
async fn a_key_is_hidden_in_any_form() {
    let encoded = "k3y%2Fwith%20%22quotes%22%20%26%20more";
    for said in [KEY.to_owned(), serde_json::to_string(KEY).unwrap(), encoded.to_owned()] {
        let rules = Rules { hmac_key: Some(KEY), ..Rules::default() };
        let script = [Reply::Answer(answer("400 Bad Request", "", &format!("key {said}")))];
        let receiver = Receiver::start(rules, script).await;
        let failed = deliver(&receiver.url("/#hmac_key=${env:KEY}"), &alert()).await.unwrap_err().to_string();
        assert!(failed.contains("***") && !failed.contains("k3y"), "{failed}");
    }
}
