//! Asks, and judges the answer.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;
use watchbell_contract::{Check, CheckContext, Outcome, Severity, async_trait};

use super::answer::{Answer, MOST_BODY_BYTES, shown, tenths};
use super::body::BodyExpectations;
use super::client::{RefusedRedirect, Route};
use super::concealed::Concealed;
use super::json::JsonAssertion;
use super::problem;
use super::progress::{Phase, Progress};
use super::request::Request;
use super::status::ExpectedStatus;

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
        Ok(Ok(Answer::read(response, begin, concealed).await))
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
        // The client reports most of these itself, but takes what it cannot read as a URI for no redirect at all.
        let location = answer.location.as_ref().filter(|_| self.route.max_redirects > 0);
        if let Some(location) = location.filter(|location| !matches!(location.scheme(), "http" | "https")) {
            problems.push(RefusedRedirect::Scheme(location.scheme().to_owned()).to_string());
        }
        let mut of_body = Vec::new();
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

/// Cuts a list, and says so in its last item.
fn shorten(problems: &mut Vec<String>) {
    let more = problems.len().saturating_sub(MOST_PROBLEMS);
    if more > 0 {
        problems.truncate(MOST_PROBLEMS);
        problems.push(format!("and {more} more"));
    }
}
