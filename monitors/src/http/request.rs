//! What is sent: method, URL, headers, body and credentials.

use anyhow::Context;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use watchbell_contract::{ConfigReader, Secret};

use super::concealed::Concealed;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Headers that describe the connection or the body's length: the client writes them as they are.
const OWN_HEADERS: [&str; 5] = ["connection", "content-length", "te", "transfer-encoding", "upgrade"];

/// Headers that the client itself takes away when a redirect leads elsewhere.
const WITHHELD_HEADERS: [HeaderName; 4] =
    [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION, header::WWW_AUTHENTICATE];

/// One request, its secrets still references.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    headers: Vec<(HeaderName, Secret)>,
    body: Option<Secret>,
    credentials: Option<Credentials>,
}

#[derive(Debug)]
enum Credentials {
    Basic { username: String, password: Secret },
    Bearer(Secret),
}

impl Request {
    /// `None` only with a fault noted.
    pub(super) fn read(config: &mut ConfigReader<'_>) -> Option<Self> {
        let method = config.choice("method", &METHODS);
        let method = method.and_then(|method| method.parse().ok()).unwrap_or(Method::GET);
        let headers = read_headers(config);
        let body = config.secret("body");
        let credentials = read_credentials(config, &headers);
        let url = read_url(config)?;
        Some(Self { method, url, headers, body, credentials })
    }

    /// Whether it must not be sent anywhere but to the URL's own scheme, host and port: it carries a secret that the
    /// client would not take away on a redirect, or a `Host` that is wrong elsewhere.
    pub(super) fn is_confined(&self) -> bool {
        let carries = |(name, value): &(HeaderName, Secret)| {
            name == header::HOST || (value.holds_reference() && !WITHHELD_HEADERS.contains(name))
        };
        self.headers.iter().any(carries) || self.body.as_ref().is_some_and(Secret::holds_reference)
    }

    /// A `Host` header of its own can be sent with HTTP/1.1 only: HTTP/2 takes the host from the URL.
    pub(super) fn names_host(&self) -> bool {
        self.headers.iter().any(|(name, _)| name == header::HOST)
    }

    /// The request as it goes to the wire. Its secrets are resolved, and noted in `concealed`.
    pub(super) async fn build(
        &self,
        client: &reqwest::Client,
        concealed: &mut Concealed,
    ) -> anyhow::Result<reqwest::Request> {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let revealed = concealed.reveal(value).await.with_context(|| format!("config.headers.{name}"))?;
            headers.append(name, header_value(name.as_str(), revealed.as_str())?);
        }
        let mut builder = client.request(self.method.clone(), self.url.clone()).headers(headers);
        if let Some(body) = &self.body {
            builder = builder.body(concealed.reveal(body).await.context("config.body")?.as_str().to_owned());
        }
        builder = match &self.credentials {
            None => builder,
            Some(Credentials::Basic { username, password }) => {
                let password = password.reveal().await.context("config.basic_auth.password")?;
                concealed.add(password.as_str());
                builder.basic_auth(username, Some(password.as_str()))
            }
            Some(Credentials::Bearer(token)) => {
                let token = token.reveal().await.context("config.bearer_token")?;
                concealed.add(token.as_str());
                header_value("Authorization", token.as_str())?;
                builder.bearer_auth(token.as_str())
            }
        };
        let request = builder.build().context("the request cannot be built")?;
        conceal_credentials(&request, concealed);
        Ok(request)
    }
}

/// The encoded form of user name and password is as good as the password.
fn conceal_credentials(request: &reqwest::Request, concealed: &mut Concealed) {
    let value = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some((_, credentials)) = value.and_then(|value| value.split_once(' ')) {
        concealed.add(credentials);
    }
}

fn header_value(name: &str, value: &str) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        anyhow::anyhow!(
            "the value of the header `{name}` holds a line break or another character that HTTP does not allow \
             (hint: does the file of its secret end with an empty line?)"
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn read_url(config: &mut ConfigReader<'_>) -> Option<Url> {
    let text = config.required_text("url");
    if text.is_empty() {
        return None;
    }
    // The text is not repeated in these faults: it may hold a password.
    let hint = || Some("for example \"https://example.com/health\"".to_owned());
    let mut url = match Url::parse(&text) {
        Ok(url) => url,
        Err(error) => {
            config.fault("url", format!("expected a URL: {error}"), hint());
            return None;
        }
    };
    if !matches!(url.scheme(), "http" | "https") {
        config.fault("url", format!("expected an http or https URL, found the scheme `{}`", url.scheme()), hint());
        return None;
    }
    if !url.username().is_empty() || url.password().is_some() {
        let hint = "write {\"basic_auth\": {\"username\": \"...\", \"password\": \"${env:WATCHBELL_SECRET_X}\"}}";
        config.fault("url", "a user name or password may not stand in it", Some(hint.into()));
        return None;
    }
    // It is never sent, so the answer's URL would differ by it.
    url.set_fragment(None);
    Some(url)
}

fn read_headers(config: &mut ConfigReader<'_>) -> Vec<(HeaderName, Secret)> {
    let written = config.value("headers").unwrap_or_default();
    let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
    for (key, secret) in config.secret_map("headers") {
        let path = format!("headers.{key}");
        let Ok(name) = HeaderName::from_bytes(key.as_bytes()) else {
            config.fault(&path, "is not a header's name", None);
            continue;
        };
        if OWN_HEADERS.contains(&name.as_str()) {
            config.fault(&path, "is written by Watchbell itself", Some("leave it out".into()));
            continue;
        }
        if headers.iter().any(|(other, _)| *other == name) {
            config.fault(&path, "is given twice, in different spellings", None);
            continue;
        }
        let text = written.get(&key).and_then(|value| value.as_str()).unwrap_or_default();
        if !secret.holds_reference() && HeaderValue::from_str(text).is_err() {
            config.fault(&path, "holds a line break or another character that HTTP does not allow", None);
            continue;
        }
        headers.push((name, secret));
    }
    headers
}

fn read_credentials(config: &mut ConfigReader<'_>, headers: &[(HeaderName, Secret)]) -> Option<Credentials> {
    let basic = config.object("basic_auth", |basic| {
        let username = basic.required_text("username");
        if username.contains(':') {
            basic.fault("username", "may not hold a `:`", Some("HTTP ends the user name there".into()));
        }
        if !basic.has("password") {
            basic.fault("password", "is required", Some("write \"${env:WATCHBELL_SECRET_X}\"".into()));
        }
        Some(Credentials::Basic { username, password: basic.secret("password")? })
    });
    let bearer = config.secret("bearer_token").map(Credentials::Bearer);
    let ways = [
        config.has("basic_auth"),
        config.has("bearer_token"),
        headers.iter().any(|(name, _)| *name == header::AUTHORIZATION),
    ];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        let key = if config.has("bearer_token") { "bearer_token" } else { "basic_auth" };
        config.fault(
            key,
            "only one of `basic_auth`, `bearer_token` and the header `Authorization` can be sent",
            Some("leave the others out".into()),
        );
    }
    bearer.or(basic.flatten())
}
