//! Asks, and judges the answer.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::Utc;
use reqwest::tls::TlsInfo;
use reqwest::{Response, StatusCode, Url, header};
use serde_json::Value;
use watchbell_contract::{Check, CheckContext, Outcome, Severity, async_trait};

use super::body::BodyExpectations;
use super::client::{RefusedRedirect, Route};
use super::concealed::Concealed;
use super::json::JsonAssertion;
use super::problem;
use super::progress::{Phase, Progress};
use super::request::Request;
use super::status::ExpectedStatus;

/// The most that is read of a body: a health page is far shorter, and hundreds of checks may run at once.
const MOST_BODY_BYTES: usize = 1024 * 1024;

/// How much of a body stands in a message: enough to recognise an error page.
const EXCERPT_CHARS: usize = 200;

/// How many things that are wrong with an answer are told; the rest is counted.
const MOST_PROBLEMS: usize = 8;

/// With fewer days than these, a certificate that ends is no matter for the morning any more.
const URGENT_CERTIFICATE_DAYS: f64 = 3.0;

/// A row's config, read.
#[derive(Debug)]
pub(super) struct HttpCheck {
    /// `None` only with a fault noted, so never in a check that is asked.
    pub(super) request: Option<Request>,
    pub(super) route: Route,
    pub(super) status: ExpectedStatus,
    pub(super) body: BodyExpectations,
    pub(super) json: Vec<JsonAssertion>,
    pub(super) max_response: Option<Duration>,
    pub(super) min_certificate_days: Option<i64>,
}

/// What the server said.
pub(super) struct Answer {
    status: StatusCode,
    /// Who gave it, after redirects.
    url: Url,
    /// Where it redirects to, if it does and that was not followed.
    location: Option<Url>,
    body: Vec<u8>,
    /// Whether more of the body than was read.
    pub(super) is_cut: bool,
    /// Why the body ended too early, if so.
    broken: Option<String>,
    took: Duration,
    certificate_days: Option<f64>,
    concealed: Concealed,
}

#[async_trait]
impl Check for HttpCheck {
    async fn check(&self, context: &CheckContext) -> anyhow::Result<Outcome> {
        let request = self.request.as_ref().context("the config has no request")?;
        let progress = Progress::new(request.url.clone());
        let patience = patience(context.timeout);
        match tokio::time::timeout(patience, self.ask(request, &progress)).await {
            Ok(asked) => Ok(match asked? {
                Ok(answer) => self.judge(request, &answer),
                Err(problem) => Outcome::failed(format!("{} {}: {problem}", request.method, shown(&request.url))),
            }),
            Err(_) => Ok(Outcome::failed(format!(
                "{} {}: no answer within {} ms: {}",
                request.method,
                shown(&request.url),
                patience.as_millis(),
                problem::unfinished(&progress)
            ))),
        }
    }
}

/// A little less than the engine's, so that the message can say how far the request had come.
fn patience(timeout: Duration) -> Duration {
    timeout.saturating_sub((timeout / 20).min(Duration::from_millis(250)))
}

impl HttpCheck {
    /// The answer; or, inside, why there is none.
    async fn ask(&self, request: &Request, progress: &Progress) -> anyhow::Result<Result<Answer, String>> {
        let mut concealed = Concealed::default();
        let client = self.route.client(request.names_host(), progress).await?;
        let wire = request.build(&client, &mut concealed).await?;
        let begin = Instant::now();
        progress.enter(Phase::Connecting);
        let response = match client.execute(wire).await {
            Ok(response) => response,
            Err(error) => return Ok(Err(concealed.hide(&problem::no_answer(&error, progress)))),
        };
        progress.enter(Phase::Reading);
        Ok(Ok(read(response, begin, concealed).await))
    }

    fn judge(&self, request: &Request, answer: &Answer) -> Outcome {
        let certificate = self.certificate_problem(answer);
        let mut problems = self.answer_problems(answer);
        let is_only_certificate = problems.is_empty();
        problems.extend(certificate);
        let line = answer.line(request);
        let outcome = if problems.is_empty() {
            let certificate =
                answer.certificate_days.map(|days| format!("; certificate valid for {} days", days.floor()));
            Outcome::ok(answer.concealed.hide(&format!("{line}{}", certificate.unwrap_or_default())))
        } else {
            // Once more over all of it: a key in the JSON or a redirect may hold a secret too.
            let outcome = Outcome::failed(answer.concealed.hide(&format!("{line}, {}", problems.join("; "))));
            let can_wait = answer.certificate_days.is_some_and(|days| days >= URGENT_CERTIFICATE_DAYS);
            if is_only_certificate && can_wait { outcome.with_severity(Severity::Warning) } else { outcome }
        };
        answer.measure(outcome)
    }

    fn answer_problems(&self, answer: &Answer) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(max) = self.max_response.filter(|max| answer.took > *max) {
            problems.push(format!("slower than the {} ms of `max_response_ms`", max.as_millis()));
        }
        let mut of_body = Vec::new();
        // The client reports most of these itself, but takes what it cannot read as a URI for no redirect at all.
        let location = answer.location.as_ref().filter(|_| self.route.max_redirects > 0);
        if let Some(location) = location.filter(|location| !matches!(location.scheme(), "http" | "https")) {
            problems.push(RefusedRedirect::Scheme(location.scheme().to_owned()).to_string());
        }
        if let Some(broken) = &answer.broken {
            of_body.push(format!("its body broke off after {} bytes: {broken}", answer.body.len()));
        }
        if !self.status.holds(answer.status.as_u16()) {
            of_body.push(format!("expected status {}", self.status));
        } else if answer.broken.is_none() {
            of_body.extend(self.body.problems(answer).into_iter().map(|problem| format!("in its body {problem}")));
            of_body.extend(self.json_problems(answer));
        }
        if !of_body.is_empty() {
            problems.extend(of_body);
            shorten(&mut problems);
            problems.push(answer.excerpt());
        }
        problems
    }

    fn json_problems(&self, answer: &Answer) -> Vec<String> {
        if self.json.is_empty() {
            return Vec::new();
        }
        if answer.is_cut {
            return vec![format!("its body is longer than the {MOST_BODY_BYTES} bytes that are read, so no JSON")];
        }
        match serde_json::from_slice::<Value>(&answer.body) {
            Ok(json) => {
                let problems = self.json.iter().filter_map(|assertion| assertion.problem(&json, &answer.concealed));
                problems.map(|problem| format!("in its JSON {problem}")).collect()
            }
            Err(error) => vec![format!("its body is not JSON ({error})")],
        }
    }

    fn certificate_problem(&self, answer: &Answer) -> Option<String> {
        let wanted = self.min_certificate_days?;
        let Some(days) = answer.certificate_days else {
            return Some(format!(
                "`{}` shows no certificate, whatever `min_certificate_days` asks",
                shown(&answer.url)
            ));
        };
        #[allow(clippy::cast_precision_loss, reason = "a number of days up to some thousand")]
        let is_short = days < wanted as f64;
        is_short.then(|| {
            format!(
                "its certificate is valid for {:.1} more days, fewer than the {wanted} of `min_certificate_days`",
                tenths(days)
            )
        })
    }
}

impl Answer {
    /// The body as text; what is not UTF-8 is replaced.
    pub(super) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// A text of the server on one line, short and without secrets.
    fn shown(&self, text: &str) -> String {
        // Secrets go before the cut, so that no half of one is left.
        let text = self.concealed.hide(text);
        let mut words = String::new();
        for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(word);
            if words.len() > EXCERPT_CHARS * 4 {
                break;
            }
        }
        words.chars().take(EXCERPT_CHARS).collect()
    }

    fn excerpt(&self) -> String {
        let text = self.text();
        let shown = self.shown(&text);
        if shown.is_empty() { "the body is empty".into() } else { format!("body starts: \"{shown}\"") }
    }

    fn line(&self, request: &Request) -> String {
        let mut line = format!("{} {} answered {}", request.method, shown(&request.url), status_text(self.status));
        if let Some(location) = &self.location {
            line.push_str(&format!(" (a redirect to {})", shown(location)));
        }
        if self.url != request.url {
            line.push_str(&format!(" (redirected to {})", shown(&self.url)));
        }
        line.push_str(&format!(" in {} ms", self.took.as_millis()));
        line
    }

    #[allow(clippy::cast_precision_loss, reason = "a count of bytes up to the bound of a body")]
    fn measure(&self, outcome: Outcome) -> Outcome {
        let outcome = outcome
            .with_metric("response_ms", (self.took.as_secs_f64() * 10_000.0).round() / 10.0)
            .with_metric("status", f64::from(self.status.as_u16()))
            .with_metric("body_bytes", self.body.len() as f64);
        match self.certificate_days {
            Some(days) => outcome.with_metric("certificate_days_left", tenths(days)),
            None => outcome,
        }
    }
}

async fn read(mut response: Response, begin: Instant, concealed: Concealed) -> Answer {
    let mut body = Vec::new();
    let mut is_cut = false;
    let broken = loop {
        match response.chunk().await {
            Ok(None) => break None,
            Ok(Some(chunk)) => {
                let room = MOST_BODY_BYTES - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    is_cut = true;
                    break None;
                }
            }
            Err(error) => break Some(concealed.hide(&problem::causes(&error))),
        }
    };
    let took = begin.elapsed();
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.filter(|_| response.status().is_redirection());
    Answer {
        status: response.status(),
        url: response.url().clone(),
        location: location.and_then(|location| response.url().join(location).ok()),
        certificate_days: certificate_days(&response),
        body,
        is_cut,
        broken,
        took,
        concealed,
    }
}

/// How long the certificate of the server that answered is still valid; negative when it no longer is.
fn certificate_days(response: &Response) -> Option<f64> {
    const SECONDS: f64 = 86_400.0;
    let certificate = response.extensions().get::<TlsInfo>()?.peer_certificate()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let left = certificate.validity().not_after.timestamp().saturating_sub(Utc::now().timestamp());
    #[allow(clippy::cast_precision_loss, reason = "seconds of some centuries are exact")]
    Some(left as f64 / SECONDS)
}

/// Rounded down: what is not wholly left is not said to be.
fn tenths(days: f64) -> f64 {
    (days * 10.0).floor() / 10.0
}

fn status_text(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// A URL for messages, without what is not for every reader of the mail: its query, and in a redirect a password.
pub(super) fn shown(url: &Url) -> String {
    const LONGEST: usize = 300;
    let host = url.host_str().map(|host| format!("//{host}")).unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let whole = format!("{}:{host}{port}{}", url.scheme(), url.path());
    let mut text: String = whole.chars().take(LONGEST).collect();
    if url.query().is_some() {
        text.push_str("?...");
    }
    text
}

/// Cuts a list, and says so in its last item.
fn shorten(problems: &mut Vec<String>) {
    let more = problems.len().saturating_sub(MOST_PROBLEMS);
    if more > 0 {
        problems.truncate(MOST_PROBLEMS);
        problems.push(format!("and {more} more"));
    }
}
