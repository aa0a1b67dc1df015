//! The kind `http`: one request, and everything that its answer must be.
//!
//! - `request`: what is sent, with its secrets; `client`: over which connection; `tls`: whom it trusts.
//! - `status`, `body`, `json`: what the `answer` must be; `check` puts them together into an outcome.
//! - `progress`, `problem`: how far it came and what went wrong, for people; `concealed`: keeps secrets out of that.
//!
//! Every check opens a connection of its own and resumes no TLS session: a kept one would hide that the server no
//! longer accepts new ones, or that its certificate has changed.

mod answer;
mod body;
mod check;
mod client;
mod concealed;
mod json;
mod manifest;
mod problem;
mod progress;
mod request;
mod status;
mod tls;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use watchbell_contract::{Check, ConfigFaults, ConfigReader, Manifest, Monitor};

use self::body::BodyExpectations;
use self::check::HttpCheck;
use self::client::{IpVersion, Route};
use self::json::JsonAssertion;
use self::request::Request;
use self::status::ExpectedStatus;
use self::tls::Trust;

/// Redirects that are followed where the row does not say: what browsers and curl's users are used to.
const DEFAULT_MAX_REDIRECTS: usize = 10;

/// The longest response time and the longest remaining validity that a row may ask for: beyond is a slip of the pen.
const MOST_RESPONSE_MS: i64 = 3_600_000;
const MOST_CERTIFICATE_DAYS: i64 = 3650;

/// The kind `http`.
pub struct Http;

impl Monitor for Http {
    fn manifest(&self) -> &Manifest {
        &manifest::MANIFEST
    }

    fn prepare(&self, mut config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        let request = Request::read(&mut config);
        let check = HttpCheck {
            route: read_route(&mut config, request.as_ref()),
            status: ExpectedStatus::read(&mut config),
            body: BodyExpectations::read(&mut config),
            json: config.objects("json", JsonAssertion::read),
            max_response: config
                .whole_number("max_response_ms", 1..=MOST_RESPONSE_MS)
                .map(|ms| Duration::from_millis(ms.unsigned_abs())),
            min_certificate_days: config.whole_number("min_certificate_days", 0..=MOST_CERTIFICATE_DAYS),
            request,
        };
        refuse_contradictions(&mut config, &check);
        config.finish(check)
    }
}

fn read_route(config: &mut ConfigReader<'_>, request: Option<&Request>) -> Route {
    let follows = config.flag("follow_redirects").unwrap_or(true);
    let max_redirects = config.whole_number("max_redirects", 1..=20);
    if !follows && max_redirects.is_some() {
        config.fault("max_redirects", "contradicts `follow_redirects`: false", Some("leave one of them out".into()));
    }
    let max_redirects = match max_redirects {
        _ if !follows => 0,
        Some(most) => usize::try_from(most).unwrap_or(DEFAULT_MAX_REDIRECTS),
        None => DEFAULT_MAX_REDIRECTS,
    };
    let ip_version = match config.whole_number("ip_version", 4..=6) {
        Some(4) => Some(IpVersion::V4),
        Some(6) => Some(IpVersion::V6),
        Some(other) => {
            config.fault("ip_version", format!("expected 4 or 6, found {other}"), None);
            None
        }
        None => None,
    };
    Route { max_redirects, ip_version, trust: read_trust(config), confined: request.is_some_and(Request::is_confined) }
}

fn read_trust(config: &mut ConfigReader<'_>) -> Trust {
    let verifies = config.flag("verify_certificate").unwrap_or(true);
    let ca_file = config.text("ca_file").map(PathBuf::from);
    match ca_file {
        Some(_) if !verifies => {
            config.fault("ca_file", "contradicts `verify_certificate`: false", Some("leave one of them out".into()));
            Trust::Anybody
        }
        Some(file) if !file.is_absolute() => {
            config.fault("ca_file", "expected an absolute path", Some("for example /etc/ssl/our-ca.pem".into()));
            Trust::System
        }
        Some(file) => Trust::File(file),
        None if verifies => Trust::System,
        None => Trust::Anybody,
    }
}

fn refuse_contradictions(config: &mut ConfigReader<'_>, check: &HttpCheck) {
    let Some(request) = &check.request else { return };
    if check.min_certificate_days.is_some() && request.url.scheme() != "https" {
        config.fault("min_certificate_days", "needs an https URL", Some("only https has a certificate".into()));
    }
    if request.method == reqwest::Method::HEAD && (!check.body.is_empty() || !check.json.is_empty()) {
        config.fault(
            "method",
            "the answer to HEAD has no body that could be looked at",
            Some("write GET, or leave the expectations of the body out".into()),
        );
    }
    if let (Some(wanted), Some(address)) = (check.route.ip_version, client::literal_address(&request.url))
        && !wanted.holds(address)
    {
        config.fault("ip_version", format!("the URL names the address `{address}`, which is no {wanted}"), None);
    }
}
