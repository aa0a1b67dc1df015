//! Whom channels trust: the system's certificate authorities, and those of `channels.ca_file`.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use watchbell_contract::{ConfigFault, ConfigFaults};

/// Trust for one channel's connections.
///
/// # Errors
/// When `ca_file` cannot be read or holds no certificate.
pub(super) fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, ConfigFaults> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let own = read(path).map_err(|problem| fault(format!("`{}` {problem}", path.display())))?;
        roots.add_parsable_certificates(own);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| fault(format!("TLS cannot be used: {error}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    // The parser's error may quote the file.
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err("holds no certificates in PEM form".to_owned()),
    }
}

fn fault(problem: String) -> ConfigFaults {
    let hint = "it is a file of certificates in PEM form, each with `-----BEGIN CERTIFICATE-----`";
    ConfigFaults(vec![ConfigFault { path: "channels.ca_file".to_owned(), problem, hint: Some(hint.to_owned()) }])
}
