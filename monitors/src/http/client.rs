//! The client of one check: which addresses it may connect to, and which redirects it may follow.
//!
//! It is made anew for each check, which costs little beside a connection, so that it can know its own request.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Action, Attempt, Policy};
use tower_layer::Layer;
use tower_service::Service;

use super::progress::{Phase, Progress};
use super::tls::{self, Trust};

/// Names the asker to the server's log, unless the row sets the header itself.
const USER_AGENT: &str = concat!("watchbell/", env!("CARGO_PKG_VERSION"));

/// How the server is reached.
#[derive(Debug)]
pub(super) struct Route {
    /// 0: a redirect is the answer.
    pub(super) max_redirects: usize,
    pub(super) ip_version: Option<IpVersion>,
    pub(super) trust: Trust,
    /// Whether no other scheme, host or port may be asked than the URL's.
    pub(super) confined: bool,
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IpVersion {
    V4,
    V6,
}

impl IpVersion {
    pub(super) fn holds(self, address: IpAddr) -> bool {
        match self {
            IpVersion::V4 => address.is_ipv4(),
            IpVersion::V6 => address.is_ipv6(),
        }
    }
}

impl fmt::Display for IpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IpVersion::V4 => "IPv4 address",
            IpVersion::V6 => "IPv6 address",
        })
    }
}

/// The address that a URL names instead of a host's name.
pub(super) fn literal_address(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

impl Route {
    /// A client for one request, which notes in `progress` how far it has come.
    pub(super) async fn client(&self, http1_only: bool, progress: &Progress) -> anyhow::Result<reqwest::Client> {
        let mut tls = tls::client_config(&self.trust).await?;
        tls.alpn_protocols = if http1_only { Vec::new() } else { vec![b"h2".to_vec(), b"http/1.1".to_vec()] };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .tls_info(true)
            .user_agent(USER_AGENT)
            .no_proxy()
            .referer(false)
            .pool_max_idle_per_host(0)
            .dns_resolver(SystemResolver { ip_version: self.ip_version, progress: progress.clone() })
            .connector_layer(NoteConnection(progress.clone()))
            .redirect(self.redirect_policy(progress.clone()));
        if http1_only {
            builder = builder.http1_only();
        }
        Ok(builder.build()?)
    }

    fn redirect_policy(&self, progress: Progress) -> Policy {
        let (max_redirects, ip_version, confined) = (self.max_redirects, self.ip_version, self.confined);
        if max_redirects == 0 {
            return Policy::none();
        }
        Policy::custom(move |attempt| match refusal(&attempt, max_redirects, ip_version, confined) {
            Some(refusal) => attempt.error(refusal),
            None => follow(attempt, &progress),
        })
    }
}

/// Why a redirect is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RefusedRedirect {
    #[error("more than {0} redirects (hint: `max_redirects` allows up to 20)")]
    TooMany(usize),
    #[error("a redirect to the scheme `{0}`, which is neither http nor https")]
    Scheme(String),
    #[error("a redirect to the address `{0}`, which is no {1}")]
    IpVersion(IpAddr, IpVersion),
    #[error(
        "a redirect to `{0}`, which must not get the secret or the `Host` header that the row sends (hint: write the \
         final URL into `url`, or send the secret with `bearer_token` or `basic_auth`)"
    )]
    Elsewhere(String),
}

fn refusal(
    attempt: &Attempt<'_>,
    max_redirects: usize,
    ip_version: Option<IpVersion>,
    confined: bool,
) -> Option<RefusedRedirect> {
    let next = attempt.url();
    if !matches!(next.scheme(), "http" | "https") {
        return Some(RefusedRedirect::Scheme(next.scheme().to_owned()));
    }
    // `previous` begins with the row's own URL, which is no redirect.
    if attempt.previous().len() > max_redirects {
        return Some(RefusedRedirect::TooMany(max_redirects));
    }
    if let (Some(wanted), Some(address)) = (ip_version, literal_address(next))
        && !wanted.holds(address)
    {
        return Some(RefusedRedirect::IpVersion(address, wanted));
    }
    let origin = attempt.previous().first().map(Url::origin);
    let leaves = origin.is_none_or(|origin| origin != next.origin());
    (confined && leaves).then(|| RefusedRedirect::Elsewhere(next.origin().ascii_serialization()))
}

fn follow(attempt: Attempt<'_>, progress: &Progress) -> Action {
    progress.moves_to(attempt.url());
    attempt.follow()
}

/// Asks the system (its hosts file, its resolver), and keeps the addresses of the wanted version.
struct SystemResolver {
    ip_version: Option<IpVersion>,
    progress: Progress,
}

/// A name that has addresses, but none that may be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it has no {wanted}, only {found}")]
pub(super) struct NoSuchAddress {
    wanted: IpVersion,
    found: String,
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (ip_version, progress) = (self.ip_version, self.progress.clone());
        progress.enter(Phase::Resolving);
        Box::pin(async move {
            // Port 0 stands for the URL's.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let usable = usable(found, ip_version)?;
            progress.enter(Phase::Connecting);
            let usable: Addrs = Box::new(usable.into_iter());
            Ok(usable)
        })
    }
}

fn usable(
    found: impl Iterator<Item = SocketAddr>,
    ip_version: Option<IpVersion>,
) -> Result<Vec<SocketAddr>, NoSuchAddress> {
    let Some(wanted) = ip_version else { return Ok(found.collect()) };
    let (usable, other): (Vec<_>, Vec<_>) = found.partition(|address| wanted.holds(address.ip()));
    if usable.is_empty() {
        let found = other.iter().map(|address| format!("`{}`", address.ip())).collect::<Vec<_>>().join(", ");
        return Err(NoSuchAddress { wanted, found });
    }
    Ok(usable)
}

/// Notes when connecting begins and when the connection stands.
#[derive(Clone)]
struct NoteConnection(Progress);

#[derive(Clone)]
struct Noted<S> {
    connector: S,
    progress: Progress,
}

impl<S> Layer<S> for NoteConnection {
    type Service = Noted<S>;

    fn layer(&self, connector: S) -> Noted<S> {
        Noted { connector, progress: self.0.clone() }
    }
}

impl<S, R> Service<R> for Noted<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, target: R) -> Self::Future {
        let progress = self.progress.clone();
        progress.enter(Phase::Connecting);
        let connecting = self.connector.call(target);
        Box::pin(async move {
            let connection = connecting.await?;
            progress.enter(Phase::Waiting);
            Ok(connection)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{IpVersion, usable};

    #[test]
    fn addresses_of_the_other_version_are_left_out_and_named_when_none_is_left() {
        let both = ["192.0.2.1:0".parse().unwrap(), "[2001:db8::1]:0".parse().unwrap()];
        let (four, six) = (both[0], both[1]);
        assert_eq!(usable(both.into_iter(), None).unwrap(), both);
        assert_eq!(usable(both.into_iter(), Some(IpVersion::V4)).unwrap(), [four]);
        assert_eq!(usable(both.into_iter(), Some(IpVersion::V6)).unwrap(), [six]);
        let error = usable([four].into_iter(), Some(IpVersion::V6)).unwrap_err();
        assert_eq!(error.to_string(), "it has no IPv6 address, only `192.0.2.1`");
    }
}
