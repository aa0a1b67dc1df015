//! The authorities whose signatures a TLS connection takes: the system's, or those of a row's `ca_file`.
//!
//! The kinds `http` and `tls` share it. It must not quote the file, which need not be what the row says it is. It fails
//! with the file's path and what is wrong with it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Largest `ca_file`: twenty times the list of all public authorities.
const LARGEST_CA_FILE: u64 = 4 * 1024 * 1024;

/// Why it is not known whom to trust.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthoritiesError {
    #[error("config.ca_file: `{}` cannot be read", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("config.ca_file: `{}` {problem} (hint: it must hold certificates in PEM form)", path.display())]
    Unusable { path: PathBuf, problem: &'static str },
    #[error("reading the trusted authorities was broken off")]
    BrokenOff(#[from] tokio::task::JoinError),
}

/// The certificates of a `ca_file`: one at least.
///
/// # Errors
/// When it cannot be read, or is no regular file of PEM within 4 MiB.
pub(crate) async fn of_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthoritiesError> {
    let path = path.to_path_buf();
    tokio::task::spawn_blocking(move || read(&path)).await?
}

/// The system's list, read anew; empty where the system has none. Reading takes long: some systems keep a file an
/// authority.
///
/// # Errors
/// When the program is going down.
pub(crate) async fn of_system() -> Result<RootCertStore, AuthoritiesError> {
    let loaded = tokio::task::spawn_blocking(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    });
    Ok(loaded.await?)
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthoritiesError> {
    let unreadable = |source| AuthoritiesError::Unreadable { path: path.to_path_buf(), source };
    let unusable = |problem| AuthoritiesError::Unusable { path: path.to_path_buf(), problem };
    // Opening a pipe or a device could wait for ever.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unusable("is no regular file"));
    }
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut pem = Vec::new();
    file.take(LARGEST_CA_FILE + 1).read_to_end(&mut pem).map_err(unreadable)?;
    if pem.len() as u64 > LARGEST_CA_FILE {
        return Err(unusable("is larger than 4 MiB"));
    }
    // The parser's error may quote the file.
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| unusable("is no valid PEM"))?;
    if certificates.is_empty() { Err(unusable("holds no certificate")) } else { Ok(certificates) }
}
