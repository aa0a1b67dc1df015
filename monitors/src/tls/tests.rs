//! The kind `tls` against servers with certificates made for the test.

mod starttls;

use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use watchbell_contract::{ConfigReader, Monitor, Outcome, Severity, testing};

use super::Tls;

const LONG: Duration = Duration::from_secs(10);

/// What a mail server says, and what must come then, in turn.
type Script = &'static [(&'static str, &'static str)];

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// What goes into `ca_file`.
    file: NamedTempFile,
}

/// A certificate with its chain, and its key.
struct Served {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

/// The instant that lies this many days from now, as rcgen writes it.
macro_rules! days {
    ($days:expr) => {{
        let instant = Utc::now() + TimeDelta::seconds(($days * 86_400.0) as i64);
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(instant.timestamp()).unwrap())
    }};
}

fn params(common_name: &str, names: &[&str], from_days: f64, to_days: f64) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    (params.not_before, params.not_after) = (days!(from_days), days!(to_days));
    params
}

fn authority() -> Authority {
    authority_named("Test Authority")
}

fn authority_named(name: &str) -> Authority {
    let mut params = params(name, &[], -100.0, 100.0);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Authority {
        file: pem_file(&certificate.pem()),
        certificate: certificate.der().clone(),
        issuer: Issuer::new(params, key),
    }
}

impl Authority {
    fn issue(&self, names: &[&str], from_days: f64, to_days: f64) -> Served {
        let key = KeyPair::generate().unwrap();
        let params = params("www.test", names, from_days, to_days);
        Served { chain: vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()], key }
    }

    fn ca_file(&self) -> &str {
        self.file.path().to_str().unwrap()
    }
}

fn pem_file(pem: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    file
}

fn server_config(
    served: Served,
    versions: &[&'static SupportedProtocolVersion],
    client_ca: Option<&Authority>,
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::try_from(served.key.serialize_der()).unwrap();
    builder.with_single_cert(served.chain, key).unwrap()
}

/// Serves one connection: first the lines of `script` (what to say, then what must come), then TLS.
async fn serve_scripted(config: ServerConfig, script: Script) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for (say, expect) in script {
            stream.write_all(say.as_bytes()).await.unwrap();
            let mut heard = vec![0; expect.len()];
            stream.read_exact(&mut heard).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&heard), *expect);
        }
        let Ok(mut tls) = acceptor.accept(stream).await else { return };
        tls.read_u8().await.ok();
    });
    port
}

async fn serve(served: Served) -> u16 {
    serve_scripted(server_config(served, rustls::ALL_VERSIONS, None), &[]).await
}

/// A server that speaks no TLS.
async fn serve_plain<F: Future<Output = ()> + Send + 'static>(
    serve: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
    port
}

async fn ask(port: u16, ca_file: Option<&str>, mut config: Value) -> Result<Outcome, String> {
    let object = config.as_object_mut().unwrap();
    object.entry("host").or_insert(json!("127.0.0.1"));
    object.entry("server_name").or_insert(json!("www.test"));
    object.insert("port".into(), json!(port));
    object.insert("ca_file".into(), json!(ca_file));
    let check = Tls.prepare(ConfigReader::without_secrets(Tls.manifest(), object)).map_err(|f| f.to_string()).unwrap();
    check.check(&testing::context(LONG)).await.map_err(|error| format!("{error:#}"))
}

fn faults(config: Value) -> String {
    let reader = ConfigReader::without_secrets(Tls.manifest(), config.as_object().unwrap());
    Tls.prepare(reader).err().map(|faults| faults.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn it_conforms() {
    testing::exercise(&Tls).await;
}

#[tokio::test]
async fn a_valid_certificate_is_ok_with_its_days() {
    let authority = authority();
    let port = serve(authority.issue(&["www.test"], -1.0, 60.5)).await;
    let outcome = ask(port, Some(authority.ca_file()), json!({})).await.unwrap();
    assert!(outcome.is_ok, "{outcome:?}");
    let begin =
        format!("the certificate `www.test` of `127.0.0.1` port {port} (127.0.0.1) is valid for another 60 days");
    assert!(outcome.message.starts_with(&begin), "{outcome:?}");
    assert!(outcome.message.contains("issued by `Test Authority`; TLS 1.3"), "{outcome:?}");
    assert!((60.4..=60.5).contains(&outcome.metrics["days_left"]), "{outcome:?}");
    assert!(outcome.metrics["handshake_ms"] > 0.0);
}

#[tokio::test]
async fn an_address_is_a_name_too() {
    let authority = authority();
    let port = serve(authority.issue(&["127.0.0.1"], -1.0, 60.0)).await;
    let outcome = ask(port, Some(authority.ca_file()), json!({"server_name": null})).await.unwrap();
    assert!(outcome.is_ok, "{outcome:?}");
}

#[tokio::test]
async fn too_few_days_are_a_warning() {
    let authority = authority();
    let port = serve(authority.issue(&["www.test"], -1.0, 13.5)).await;
    let outcome = ask(port, Some(authority.ca_file()), json!({})).await.unwrap();
    assert!(!outcome.is_ok);
    assert_eq!(outcome.severity, Some(Severity::Warning));
    assert!(
        outcome.message.contains("expires in 13 days, less than the 14 days of `min_days`: renew it"),
        "{outcome:?}"
    );
    assert!((13.4..=13.5).contains(&outcome.metrics["days_left"]));

    let port = serve(authority.issue(&["www.test"], -1.0, 13.5)).await;
    assert!(ask(port, Some(authority.ca_file()), json!({"min_days": 13})).await.unwrap().is_ok);
    let port = serve(authority.issue(&["www.test"], -1.0, 0.2)).await;
    assert!(ask(port, Some(authority.ca_file()), json!({"min_days": 0})).await.unwrap().is_ok);
}

#[tokio::test]
async fn an_expired_certificate_fails_as_bad_as_the_row_says() {
    let authority = authority();
    let port = serve(authority.issue(&["www.test"], -10.0, -3.5)).await;
    let outcome = ask(port, Some(authority.ca_file()), json!({"min_days": 0})).await.unwrap();
    assert!(!outcome.is_ok && outcome.severity.is_none(), "{outcome:?}");
    assert!(outcome.message.contains("(127.0.0.1) expired 3 days ago (valid until"), "{outcome:?}");
    assert!((-3.6..=-3.5).contains(&outcome.metrics["days_left"]));
}

#[tokio::test]
async fn a_certificate_of_tomorrow_fails() {
    let authority = authority();
    let port = serve(authority.issue(&["www.test"], 1.0, 60.0)).await;
    let outcome = ask(port, Some(authority.ca_file()), json!({})).await.unwrap();
    assert!(!outcome.is_ok && outcome.severity.is_none(), "{outcome:?}");
    assert!(outcome.message.contains("is not valid before "), "{outcome:?}");
}

#[tokio::test]
async fn a_wrong_name_fails_and_the_right_ones_are_told() {
    let authority = authority();
    let port = serve(authority.issue(&["www.test", "*.shop.test"], -1.0, 60.0)).await;
    let outcome = ask(port, Some(authority.ca_file()), json!({"server_name": "api.test"})).await.unwrap();
    assert!(!outcome.is_ok && outcome.severity.is_none(), "{outcome:?}");
    assert!(
        outcome.message.contains("is not for `api.test` but for www.test, *.shop.test (valid until"),
        "{outcome:?}"
    );
    assert!(outcome.metrics["days_left"] > 59.0);

    let port = serve(authority.issue(&["www.test", "*.shop.test"], -1.0, 60.0)).await;
    let outcome = ask(port, Some(authority.ca_file()), json!({"server_name": "a.shop.test."})).await.unwrap();
    assert!(outcome.is_ok, "{outcome:?}");
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once() {
    let authority = authority();
    let port = serve(authority.issue(&["www.test"], -9.0, -5.1)).await;
    let outcome = ask(port, Some(authority.ca_file()), json!({"server_name": "api.test"})).await.unwrap();
    let told = "expired 5 days ago; and it is not for `api.test` but for www.test (valid until";
    assert!(outcome.message.contains(told), "{outcome:?}");

    let port = serve(authority.issue(&["www.test"], -1.0, 60.0)).await;
    let others = authority_named("Other");
    let outcome = ask(port, Some(others.ca_file()), json!({"server_name": "api.test"})).await.unwrap();
    for part in ["is not for `api.test` but for www.test", "; and it is not trusted: nobody in `ca_file`"] {
        assert!(outcome.message.contains(part), "{part} is missing in {outcome:?}");
    }
}

#[tokio::test]
async fn an_unknown_authority_fails_with_the_days() {
    let (others, namesake) = (authority_named("Other"), authority());
    for (trusted, told) in [
        (&others, "vouches for its issuer (does the server leave out an intermediate certificate?)"),
        (&namesake, "holds an authority with its issuer's name, but with another key"),
    ] {
        let port = serve(authority().issue(&["www.test"], -1.0, 60.5)).await;
        let outcome = ask(port, Some(trusted.ca_file()), json!({})).await.unwrap();
        assert!(!outcome.is_ok && outcome.severity.is_none(), "{outcome:?}");
        assert!(outcome.message.contains(told), "{outcome:?}");
        assert!((60.4..=60.5).contains(&outcome.metrics["days_left"]));
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_only_when_the_ca_file_holds_it() {
    // Self-signed certificates are usually marked as an authority, as `openssl req -x509` does.
    for is_ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let own = |to_days| {
            let mut params = params("self.test", &["www.test"], -10.0, to_days);
            params.is_ca = is_ca;
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            (pem_file(&certificate.pem()), Served { chain: vec![certificate.der().clone()], key })
        };
        let (_, served) = own(60.0);
        let outcome = ask(serve(served).await, Some(authority().ca_file()), json!({})).await.unwrap();
        assert!(!outcome.is_ok && outcome.severity.is_none(), "{outcome:?}");

        let (file, served) = own(60.0);
        let outcome = ask(serve(served).await, file.path().to_str(), json!({})).await.unwrap();
        assert!(outcome.is_ok, "{outcome:?}");

        let (file, served) = own(60.0);
        let outcome = ask(serve(served).await, file.path().to_str(), json!({"server_name": "x.test"})).await.unwrap();
        assert!(!outcome.is_ok && outcome.message.contains("is not for `x.test`"), "{outcome:?}");

        let (file, served) = own(-1.5);
        let outcome = ask(serve(served).await, file.path().to_str(), json!({})).await.unwrap();
        assert!(!outcome.is_ok && outcome.message.contains("expired 36 hours ago"), "{outcome:?}");
    }
}

#[tokio::test]
async fn the_system_does_not_vouch_for_a_self_signed_certificate() {
    let key = KeyPair::generate().unwrap();
    let certificate = params("self.test", &["www.test"], -1.0, 60.0).self_signed(&key).unwrap();
    let port = serve(Served { chain: vec![certificate.der().clone()], key }).await;
    match ask(port, None, json!({})).await {
        Ok(outcome) => {
            let told = "is self-signed and not in the system's list of authorities";
            assert!(!outcome.is_ok && outcome.message.contains(told), "{outcome:?}");
        }
        // A machine without any list.
        Err(error) => assert!(error.contains("install `ca-certificates`"), "{error}"),
    }
}

#[tokio::test]
async fn an_expired_intermediate_is_told_apart() {
    let root = authority();
    let mut params = params("Test Intermediate", &[], -50.0, -2.0);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &root.issuer).unwrap().der().clone();
    let intermediate = Authority { issuer: Issuer::new(params, key), certificate, file: pem_file("") };
    let mut served = intermediate.issue(&["www.test"], -1.0, 60.0);
    served.chain.push(intermediate.certificate.clone());
    let outcome = ask(serve(served).await, Some(root.ca_file()), json!({})).await.unwrap();
    assert!(!outcome.is_ok, "{outcome:?}");
    assert!(outcome.message.contains("is itself valid, but a certificate between it and the authority has expired"));
}

#[tokio::test]
async fn an_old_tls_version_fails() {
    let authority = authority();
    let serve_tls12 = async || {
        let config = server_config(authority.issue(&["www.test"], -1.0, 60.0), &[&rustls::version::TLS12], None);
        serve_scripted(config, &[]).await
    };
    let config = json!({"min_tls_version": "1.3"});
    let outcome = ask(serve_tls12().await, Some(authority.ca_file()), config).await.unwrap();
    assert!(!outcome.is_ok && outcome.message.contains("speaks only TLS 1.2, older than the `min_tls_version` 1.3"));
    let config = json!({"min_tls_version": "1.2"});
    let outcome = ask(serve_tls12().await, Some(authority.ca_file()), config).await.unwrap();
    assert!(outcome.is_ok && outcome.message.ends_with("; TLS 1.2"), "{outcome:?}");
}

#[tokio::test]
async fn a_demanded_client_certificate_fails_within_tls_1_2_only() {
    let authority = authority();
    let served = authority.issue(&["www.test"], -1.0, 60.0);
    let config = server_config(served, &[&rustls::version::TLS12], Some(&authority));
    let outcome = ask(serve_scripted(config, &[]).await, Some(authority.ca_file()), json!({})).await.unwrap();
    assert!(!outcome.is_ok && outcome.message.contains("but the TLS handshake fails: "), "{outcome:?}");
    assert!(
        outcome.message.contains("is valid until") && outcome.message.contains("client certificate"),
        "{outcome:?}"
    );

    let served = authority.issue(&["www.test"], -1.0, 60.0);
    let config = server_config(served, &[&rustls::version::TLS13], Some(&authority));
    assert!(ask(serve_scripted(config, &[]).await, Some(authority.ca_file()), json!({})).await.unwrap().is_ok);
}

#[tokio::test]
async fn what_is_no_tls_is_told_apart_from_silence_and_refusal() {
    let authority = authority();
    let port = serve_plain(async |mut stream: TcpStream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream.read_u8().await.ok();
    })
    .await;
    let outcome = ask(port, Some(authority.ca_file()), json!({})).await.unwrap();
    assert!(outcome.message.contains("no TLS handshake: what answers there does not speak TLS"), "{outcome:?}");
    assert!(!outcome.metrics.contains_key("days_left"));

    let port = serve_plain(async |_| ()).await;
    let outcome = ask(port, Some(authority.ca_file()), json!({})).await.unwrap();
    assert!(outcome.message.contains("no TLS handshake: the "), "{outcome:?}");

    let error = ask(port, Some(authority.ca_file()), json!({})).await.unwrap_err();
    assert!(error.contains("nothing listens on this port"), "{error}");
}

#[tokio::test]
async fn silence_is_reported_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = authority();
    let port = listener.local_addr().unwrap().port();
    for (config, told) in [
        (json!({}), "no TLS handshake: it did not come to an end within 0."),
        (json!({"starttls": "imap"}), "does not answer before TLS begins"),
    ] {
        let mut config = config;
        let object = config.as_object_mut().unwrap();
        object.extend([("host".into(), json!("127.0.0.1")), ("port".into(), json!(port))]);
        object.insert("ca_file".into(), json!(authority.ca_file()));
        let check = Tls.prepare(ConfigReader::without_secrets(Tls.manifest(), object)).unwrap();
        let limit = Duration::from_secs(1);
        let outcome = tokio::time::timeout(limit, check.check(&testing::context(limit))).await.unwrap().unwrap();
        assert!(!outcome.is_ok && outcome.message.contains(told), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_unusable_ca_file_is_told() {
    let (empty, garbage) = (pem_file(""), pem_file("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"));
    let hollow = pem_file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let key = pem_file(&KeyPair::generate().unwrap().serialize_pem());
    let directory = tempfile::tempdir().unwrap();
    let large = NamedTempFile::new().unwrap();
    large.as_file().set_len(4 * 1024 * 1024 + 1).unwrap();
    for (path, told) in [
        (empty.path(), "holds no certificate (hint: it must hold certificates in PEM form)"),
        (key.path(), "holds no certificate"),
        (hollow.path(), "holds no usable certificate"),
        (garbage.path(), "no valid PEM"),
        (directory.path(), "is no regular file"),
        (large.path(), "larger than 4 MiB"),
        (&directory.path().join("missing.pem"), "cannot be read: No such file"),
    ] {
        let error = ask(9, path.to_str(), json!({})).await.unwrap_err();
        assert!(error.contains(told), "{told} is missing in {error}");
    }
}

#[test]
fn bad_configs_are_refused_with_every_fault() {
    let text = faults(json!({
        "host": "", "port": 0, "server_name": "a b", "min_days": -1, "ca_file": "ca.pem", "starttls": "ftp",
        "min_tls_version": "1.1"
    }));
    for part in [
        "config.host: is required",
        "config.port: expected a whole number from 1 to 65535",
        "config.server_name: `a b` is no name that a certificate can hold",
        "config.min_days: expected 0 or more, found -1",
        "config.ca_file: is no absolute path",
        "config.starttls: expected one of",
        "config.min_tls_version: expected one of",
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    assert!(faults(json!({"host": "bücher.test"})).contains("config.host: `bücher.test` is no name"));
    assert_eq!(faults(json!({"host": "bücher.test", "server_name": "xn--bcher-kva.test"})), "");
}
