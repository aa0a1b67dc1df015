//! Whom an https connection trusts.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, bail};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::AsyncReadExt;

/// The most that is read of a `ca_file`: several times the size of the system's whole collection.
const MOST_CA_FILE_BYTES: u64 = 4 * 1024 * 1024;

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

/// Reading some hundred files takes long, so it is done once. An empty collection is not kept: it may be mended.
async fn system_roots() -> anyhow::Result<Arc<RootCertStore>> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let loaded = tokio::task::spawn_blocking(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    let roots = loaded.await.context("the system's trusted certificates cannot be read")?;
    Ok(if roots.is_empty() { roots } else { ROOTS.get_or_init(|| roots).clone() })
}

async fn roots_of(file: &Path) -> anyhow::Result<RootCertStore> {
    let shown = file.display();
    let pem = read_bounded(file).await.with_context(|| format!("config.ca_file: `{shown}` cannot be read"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        // The parser's error is left out: it may quote the file, which need not be what the row says it is.
        let Ok(certificate) = certificate else { bail!("config.ca_file: `{shown}` is not a PEM file") };
        roots.add(certificate).with_context(|| format!("config.ca_file: a certificate in `{shown}` is not usable"))?;
    }
    if roots.is_empty() {
        bail!("config.ca_file: `{shown}` holds no certificate (hint: it must be PEM, `-----BEGIN CERTIFICATE-----`)");
    }
    Ok(roots)
}

async fn read_bounded(file: &Path) -> anyhow::Result<Vec<u8>> {
    // Opening a pipe or a device could wait for ever.
    if !tokio::fs::metadata(file).await?.is_file() {
        bail!("it is no regular file");
    }
    let mut pem = Vec::new();
    let mut limited = tokio::fs::File::open(file).await?.take(MOST_CA_FILE_BYTES + 1);
    limited.read_to_end(&mut pem).await?;
    if u64::try_from(pem.len()).is_ok_and(|read| read > MOST_CA_FILE_BYTES) {
        bail!("it is longer than {MOST_CA_FILE_BYTES} bytes");
    }
    Ok(pem)
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
