//! Whom an https connection trusts.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::authorities;

/// Who may have signed the server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// Whom this machine trusts.
    System,
    /// The certificates in this PEM file, and nobody else.
    File(PathBuf),
    /// Anybody: nothing is verified but that the server has the key of the certificate it shows.
    Anybody,
}

/// The TLS side of a client.
pub(super) async fn client_config(trust: &Trust) -> anyhow::Result<ClientConfig> {
    let roots = match trust {
        Trust::Anybody => {
            let provider = Arc::new(ring::default_provider());
            let builder =
                ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
            let verifier = Arc::new(AcceptAny(provider));
            return Ok(fresh(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()));
        }
        Trust::System => system_roots().await?,
        Trust::File(file) => Arc::new(roots_of(file).await?),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(fresh(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth()))
}

/// Each handshake stands alone: a resumed session would show the certificate of the first one.
fn fresh(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config
}

/// Reading them takes long, so it is done once. An empty collection is not kept: it may be mended.
async fn system_roots() -> anyhow::Result<Arc<RootCertStore>> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let roots = Arc::new(authorities::of_system().await?);
    Ok(if roots.is_empty() { roots } else { ROOTS.get_or_init(|| roots).clone() })
}

async fn roots_of(file: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities::of_file(file).await? {
        let unusable = || format!("config.ca_file: a certificate in `{}` is not usable", file.display());
        roots.add(certificate).with_context(unusable)?;
    }
    Ok(roots)
}

/// Takes any certificate, but has the server prove that it holds the certificate's key.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
