//! Whom a check trusts, and the verifier that notes what the server showed.
//!
//! It must never accept what rustls' own verifier refuses, with one exception: a certificate that `ca_file` holds
//! byte by byte is trusted for itself, as `openssl` does. Its dates and names are checked all the same.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificate::Certificate;
use crate::authorities::{self, AuthoritiesError};

/// Why it is not known whom to trust.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrustError {
    #[error("this machine has no list of trusted authorities; install `ca-certificates`, or set `ca_file`")]
    NoSystemRoots,
    #[error("config.ca_file: `{}` holds no usable certificate", .0.display())]
    NoUsableCertificate(PathBuf),
    #[error(transparent)]
    Authorities(#[from] AuthoritiesError),
    #[error("the trusted authorities cannot be used")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// The certificates that a check trusts.
#[derive(Debug)]
pub(super) struct Trusted {
    roots: RootCertStore,
    /// Those of `ca_file`, which are trusted also as the server's own certificate.
    pinned: Vec<CertificateDer<'static>>,
}

impl Trusted {
    /// Reads `ca_file`, or the system's list; anew for every check, because either is renewed while a node runs.
    pub(super) async fn load(ca_file: Option<&Path>) -> Result<Self, TrustError> {
        let Some(path) = ca_file else {
            let roots = authorities::of_system().await?;
            return if roots.is_empty() {
                Err(TrustError::NoSystemRoots)
            } else {
                Ok(Self { roots, pinned: Vec::new() })
            };
        };
        let pinned = authorities::of_file(path).await?;
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(pinned.iter().cloned());
        if added == 0 { Err(TrustError::NoUsableCertificate(path.to_path_buf())) } else { Ok(Self { roots, pinned }) }
    }
}

/// What the server showed, and what is to be said of it.
#[derive(Debug)]
pub(super) struct Inspection {
    pub(super) certificate: CertificateDer<'static>,
    /// What rustls' verifier found first.
    pub(super) verdict: Result<(), Error>,
    /// Whether the name fits, also where something else was found first.
    pub(super) name: Result<(), Error>,
}

/// A verifier that notes what it saw, so that a certificate can be described also when it is refused.
#[derive(Debug)]
pub(super) struct Inspector {
    verifier: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
    seen: OnceLock<Inspection>,
}

impl Inspector {
    pub(super) fn new(trusted: Trusted, provider: Arc<CryptoProvider>) -> Result<Self, TrustError> {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(trusted.roots), provider).build()?;
        Ok(Self { verifier, pinned: trusted.pinned, seen: OnceLock::new() })
    }

    /// What the server showed; `None` while it has shown nothing.
    pub(super) fn seen(&self) -> Option<&Inspection> {
        self.seen.get()
    }

    /// The verdict on a certificate that `ca_file` holds itself: its dates and its name decide.
    fn judge_pinned(
        &self,
        certificate: &CertificateDer<'_>,
        now: UnixTime,
        name: &Result<(), Error>,
    ) -> Result<(), Error> {
        let facts = Certificate::read(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < facts.not_before.timestamp() {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > facts.not_after.timestamp() {
            return Err(CertificateError::Expired.into());
        }
        name.clone()
    }
}

impl ServerCertVerifier for Inspector {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = ParsedCertificate::try_from(end_entity).and_then(|parsed| verify_server_name(&parsed, server_name));
        let verdict = if self.pinned.iter().any(|pinned| pinned == end_entity) {
            self.judge_pinned(end_entity, now, &name)
        } else {
            let verified = self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
            verified.map(|_| ())
        };
        self.seen.get_or_init(|| Inspection {
            certificate: end_entity.clone().into_owned(),
            verdict: verdict.clone(),
            name,
        });
        verdict.map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
