//! Mail over SMTP.
//!
//! Where: `mail.url` (see `url.rs`), from `mail.from`, with the system's certificate authorities and a private one
//! (`mail.ca_file`). How: one mail a notification, with a Message-ID that is the same at every attempt, so that a
//! mail which was sent twice (after a crash between the server's answer and the commit) can be recognized.
//!
//! Nothing can be delivered where the server cannot be reached, is too slow, is not trusted, or refuses the login or
//! the sender, for now or for good: a person or time will mend that. Only this mail is tried again where the server
//! answers `4xx` to its recipient or to itself, or breaks off. It fails for good where the answer to that is `5xx`, or
//! where no mail can be made (an address that is none).
//!
//! Limits: one call takes at most twice `timeout`: once waiting for a free connection, once for the mail.

mod connections;
mod failure;
mod send;
mod url;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use tokio::time::{Instant, timeout_at};
use watchbell_contract::{ConfigFault, ConfigFaults, Secret};

use super::mime::Composer;
use crate::domain::{OutboxRow, one_line};
use crate::ports::{Channel, Delivered, DeliveryError};
use connections::{Connection, Connections, Server};
use failure::MAX_REASON_CHARS;
use url::{Encryption, MailUrl};

/// Mails on their way at a time; the connections have a bound of their own.
const MAX_IN_FLIGHT: usize = 16;

/// How mail is sent.
#[derive(Debug, Clone)]
pub struct EmailSettings {
    /// `mail.url`, with its secret references unresolved.
    pub url: Secret,
    /// `mail.from`: an address, or `Name <address>`.
    pub from: String,
    /// `mail.ca_file`: certificate authorities in PEM form that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a mail may take from the connection to the server's last answer; as long again it may wait for a
    /// free connection.
    pub timeout: Duration,
    /// How many connections may be open at once; 0 counts as 1.
    pub max_connections: u32,
    /// `public_url`: where people reach the pages that mails link to.
    pub public_url: Option<String>,
}

/// Delivers notifications as mail over SMTP.
pub struct SmtpMail {
    settings: EmailSettings,
    composer: Composer,
    connections: Arc<Connections>,
}

impl SmtpMail {
    /// A channel that is ready for use. Nothing is resolved or connected to yet; [`SmtpMail::prepare`] does that.
    ///
    /// # Errors
    /// All that is wrong with the settings, each with its key and a hint.
    pub fn new(settings: EmailSettings) -> Result<Self, ConfigFaults> {
        let composer = Composer::new(&settings.from, settings.public_url.as_deref());
        let authorities = read_authorities(&settings);
        match (composer, authorities) {
            (Ok(composer), Ok(_)) => {
                let connections = Arc::new(Connections::new(settings.max_connections));
                Ok(Self { settings, composer, connections })
            }
            (composer, authorities) => {
                let faults = composer.err().map(|faults| faults.0).unwrap_or_default();
                Err(ConfigFaults(faults.into_iter().chain(authorities.err()).collect()))
            }
        }
    }

    /// Resolves and reads `mail.url` now, as the first mail would: for the start of a node and for `doctor`. It does
    /// not connect.
    ///
    /// # Errors
    /// What is wrong, with a hint, without any secret.
    pub async fn prepare(&self) -> Result<(), ConfigFault> {
        self.server().await.map(drop)
    }

    /// Opens a session as for a mail, with greeting, TLS and login, and ends it without one: for `doctor`.
    ///
    /// # Errors
    /// What keeps mail from being handed over, with a hint where there is one; never a secret.
    pub async fn probe(&self, patience: Duration) -> Result<(), DeliveryError> {
        let server = self.server().await.map_err(|fault| failure::unavailable(fault.to_string()))?;
        match timeout_at(Instant::now() + patience, self.connections.connect(&server, patience)).await {
            Ok(Ok(connection)) => {
                connections::close(connection).await;
                Ok(())
            }
            Ok(Err(error)) => Err(failure::of_connecting(&server.url, &error)),
            Err(_) => Err(failure::too_slow(&server.url, patience)),
        }
    }

    /// Whether the password may travel unencrypted, as far as is known since [`SmtpMail::prepare`].
    pub fn may_show_password(&self) -> bool {
        self.connections.server().is_some_and(|server| {
            let may_be_plain = matches!(server.url.encryption, Encryption::Plain | Encryption::StartTlsIfOffered);
            may_be_plain && server.url.login.is_some()
        })
    }

    async fn server(&self) -> Result<Arc<Server>, ConfigFault> {
        if let Some(server) = self.connections.server() {
            return Ok(server);
        }
        let revealed = self.settings.url.reveal().await.map_err(|error| ConfigFault {
            path: "mail.url".to_owned(),
            problem: error.to_string(),
            hint: Some("`watchbell doctor` tells which secrets can be read".to_owned()),
        })?;
        let url = MailUrl::parse(revealed.as_str())?;
        let tls = match url.encryption {
            Encryption::Plain => None,
            Encryption::StartTlsIfOffered | Encryption::StartTls | Encryption::Tls => Some(self.tls_for(&url.host)?),
        };
        Ok(self.connections.use_server(Server { url, tls }))
    }

    fn tls_for(&self, host: &str) -> Result<TlsParameters, ConfigFault> {
        let mut builder = TlsParameters::builder(host.to_owned());
        if let Some(authorities) = read_authorities(&self.settings)? {
            builder = builder.add_root_certificate(authorities);
        }
        builder.build().map_err(|error| ca_fault(format!("cannot be used: {error}")))
    }

    async fn hand_over(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        let mail = self.composer.compose(message)?;
        let patience = self.settings.timeout;
        let Some(permit) = self.connections.permit(patience).await else {
            return Err(failure::no_free_connection(self.settings.max_connections, patience));
        };
        let deadline = Instant::now() + patience;
        let server = match timeout_at(deadline, self.server()).await {
            Ok(server) => server.map_err(|fault| failure::unavailable(fault.to_string()))?,
            Err(_) => return Err(failure::slow_secrets(patience)),
        };
        let mut connection = self.connect(&server, deadline).await?;
        match send::send(&mut connection.smtp, &mail, deadline).await {
            Ok(response) => {
                self.connections.park(connection, permit);
                let said = response.message().collect::<Vec<_>>().join(" ");
                let answer =
                    format!("{} {}", response.code(), failure::without_password(&said, server.url.login.as_ref()));
                Ok(Delivered { answer: one_line(&answer, MAX_REASON_CHARS).into_owned(), external_id: None })
            }
            Err(error) => {
                if failure::is_about_login(&error) {
                    self.connections.forget(&server);
                }
                // A session that is silent would not answer a goodbye either: it is closed at once.
                if !error.is_silence() {
                    connections::end(connection, permit);
                }
                Err(failure::of_sending(&server.url, &error, patience))
            }
        }
    }

    async fn connect(&self, server: &Arc<Server>, deadline: Instant) -> Result<Connection, DeliveryError> {
        let patience = self.settings.timeout;
        match timeout_at(deadline, self.connections.connect(server, patience)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => {
                if failure::may_be_mended_by_settings(&error) {
                    self.connections.forget(server);
                }
                Err(failure::of_connecting(&server.url, &error))
            }
            Err(_) => Err(failure::too_slow(&server.url, patience)),
        }
    }
}

#[async_trait]
impl Channel for SmtpMail {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        self.hand_over(message).await
    }

    fn max_in_flight(&self) -> usize {
        MAX_IN_FLIGHT
    }

    fn describe(&self) -> String {
        match self.connections.server() {
            Some(server) => format!("from {} through {}", self.composer.from(), server.url),
            None => format!("from {} through the server of `mail.url`", self.composer.from()),
        }
    }
}

fn read_authorities(settings: &EmailSettings) -> Result<Option<Certificate>, ConfigFault> {
    let Some(path) = &settings.ca_file else { return Ok(None) };
    let pem = std::fs::read(path).map_err(|error| ca_fault(format!("`{}` cannot be read: {error}", path.display())))?;
    // Without this a file that holds something else would count as a list of no certificates.
    let marker = b"-----BEGIN CERTIFICATE-----";
    if !pem.windows(marker.len()).any(|window| window == marker) {
        return Err(ca_fault(format!("`{}` holds no certificate", path.display())));
    }
    let certificate = Certificate::from_pem(&pem);
    certificate.map(Some).map_err(|error| ca_fault(format!("`{}` cannot be read: {error}", path.display())))
}

fn ca_fault(problem: String) -> ConfigFault {
    let hint = "it is a file of certificates in PEM form, each with `-----BEGIN CERTIFICATE-----`";
    ConfigFault { path: "mail.ca_file".to_owned(), problem, hint: Some(hint.to_owned()) }
}
