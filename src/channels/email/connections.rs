//! Connections to the mail server: kept open between mails, and never more of them than allowed.
//!
//! Lettre's own pool bounds only what is parked in it, opens another connection whenever none is parked, and takes a
//! connection back that was given up in the middle of a mail. Here a permit is held for as long as a connection is in
//! use, a new one is opened only while none is parked, and one that was not handed back is closed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::Rset;
use lettre::transport::smtp::extension::ClientId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::url::{Encryption, MailUrl};

/// Servers end a quiet session after some minutes (Postfix: 5); this side is first, so that it knows.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// Some servers end a session after 100 mails or more, with a temporary refusal of the next one.
const MAILS_PER_CONNECTION: u32 = 100;
/// A live server answers RSET and QUIT at once; a path that silently died must not eat the time of the mail.
const COURTESY_WAIT: Duration = Duration::from_secs(3);

/// Of a host with several addresses, one that swallows packets must not eat the time of the others.
const ADDRESSES_TRIED: u32 = 3;

/// A server as resolved: address, TLS set-up and login.
pub(super) struct Server {
    pub(super) url: MailUrl,
    /// `None` exactly where [`Encryption::Plain`].
    pub(super) tls: Option<TlsParameters>,
}

/// What went wrong before a mail could be handed over.
pub(super) enum ConnectError {
    /// No connection, no greeting, or no TLS.
    Reach(Error),
    /// The server is there, but does not let this login in.
    Login(Error),
}

/// One open session. Dropped without [`Connections::park`], it is closed.
pub(super) struct Connection {
    pub(super) smtp: AsyncSmtpConnection,
    server: Arc<Server>,
    mails: u32,
    idle_since: Instant,
}

/// All connections of one channel.
pub(super) struct Connections {
    permits: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    server: Option<Arc<Server>>,
    parked: Vec<Connection>,
    has_reaper: bool,
}

impl Connections {
    pub(super) fn new(max_open: u32) -> Self {
        let permits = Semaphore::new(usize::try_from(max_open.max(1)).unwrap_or(Semaphore::MAX_PERMITS));
        Self { permits: Arc::new(permits), state: Mutex::default() }
    }

    /// Waits for the right to have a connection. `None`: not within `patience`.
    pub(super) async fn permit(&self, patience: Duration) -> Option<OwnedSemaphorePermit> {
        timeout(patience, Arc::clone(&self.permits).acquire_owned()).await.ok()?.ok()
    }

    /// The server in use.
    pub(super) fn server(&self) -> Option<Arc<Server>> {
        self.lock().server.clone()
    }

    /// Puts a newly resolved server into use, unless somebody else was first; what is in use comes back.
    pub(super) fn use_server(&self, server: Server) -> Arc<Server> {
        Arc::clone(self.lock().server.get_or_insert_with(|| Arc::new(server)))
    }

    /// Has the server resolved anew for the next mail, unless that was done already: secrets and certificates that
    /// were replaced since count from then on.
    pub(super) fn forget(&self, server: &Arc<Server>) {
        let mut state = self.lock();
        if state.server.as_ref().is_some_and(|used| Arc::ptr_eq(used, server)) {
            state.server = None;
            state.parked.clear();
        }
    }

    /// A session with `server`, kept or new. The caller holds a permit, until after it parked or dropped it.
    pub(super) async fn connect(&self, server: &Arc<Server>, within: Duration) -> Result<Connection, ConnectError> {
        while let Some(mut connection) = self.unpark(server) {
            if let Ok(Ok(_)) = timeout(COURTESY_WAIT, connection.smtp.command(Rset)).await {
                return Ok(connection);
            }
        }
        open(server, within).await
    }

    /// Keeps a session for the next mail. It must be between two mails. It never waits: what the server said of the
    /// mail is known, and must reach the ledger.
    pub(super) fn park(self: &Arc<Self>, mut connection: Connection, permit: OwnedSemaphorePermit) {
        connection.mails += 1;
        connection.idle_since = Instant::now();
        if connection.mails >= MAILS_PER_CONNECTION {
            end(connection, permit);
            return;
        }
        let mut state = self.lock();
        if !state.server.as_ref().is_some_and(|used| Arc::ptr_eq(used, &connection.server)) {
            return;
        }
        state.parked.push(connection);
        if !std::mem::replace(&mut state.has_reaper, true) {
            tokio::spawn(reap(Arc::downgrade(self)));
        }
    }

    fn unpark(&self, server: &Arc<Server>) -> Option<Connection> {
        let mut state = self.lock();
        state.parked.retain(|parked| Arc::ptr_eq(&parked.server, server));
        state.parked.pop()
    }

    /// The session that was not used for longest, if for too long.
    fn take_idle(&self) -> Option<Connection> {
        let mut state = self.lock();
        let is_idle = state.parked.first().is_some_and(|parked| parked.idle_since.elapsed() >= IDLE_LIMIT);
        is_idle.then(|| state.parked.remove(0))
    }

    /// Whether the reaper has nothing left to wait for; it must end then.
    fn dismiss_reaper(&self) -> bool {
        let mut state = self.lock();
        state.has_reaper = !state.parked.is_empty();
        !state.has_reaper
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; what is guarded is whole at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends sessions that nobody needs any more.
async fn reap(connections: std::sync::Weak<Connections>) {
    loop {
        tokio::time::sleep(IDLE_LIMIT / 2).await;
        let Some(connections) = connections.upgrade() else { return };
        while let Ok(permit) = Arc::clone(&connections.permits).try_acquire_owned() {
            let Some(connection) = connections.take_idle() else { break };
            end(connection, permit);
        }
        if connections.dismiss_reaper() {
            return;
        }
    }
}

async fn open(server: &Arc<Server>, within: Duration) -> Result<Connection, ConnectError> {
    let url = &server.url;
    let hello = url.hello.clone().map_or_else(ClientId::default, ClientId::Domain);
    let from_start = server.tls.clone().filter(|_| url.encryption == Encryption::Tls);
    let address = (url.host.as_str(), url.port);
    let connected =
        AsyncSmtpConnection::connect_tokio1(address, Some(within / ADDRESSES_TRIED), &hello, from_start, None);
    let mut smtp = connected.await.map_err(ConnectError::Reach)?;
    let wants_upgrade = match url.encryption {
        Encryption::Plain | Encryption::Tls => false,
        Encryption::StartTls => true,
        Encryption::StartTlsIfOffered => smtp.can_starttls(),
    };
    if let Some(tls) = server.tls.clone().filter(|_| wants_upgrade) {
        smtp.starttls(tls, &hello).await.map_err(ConnectError::Reach)?;
    }
    if let Some(login) = &url.login {
        let credentials = Credentials::new(login.user.clone(), login.password.clone());
        if let Err(error) = smtp.auth(DEFAULT_MECHANISMS, &credentials).await {
            quit(&mut smtp).await;
            return Err(ConnectError::Login(error));
        }
    }
    Ok(Connection { smtp, server: Arc::clone(server), mails: 0, idle_since: Instant::now() })
}

/// Says goodbye, aside. The permit is held until then: the session is still open on the server.
pub(super) fn end(mut connection: Connection, permit: OwnedSemaphorePermit) {
    tokio::spawn(async move {
        quit(&mut connection.smtp).await;
        drop((connection, permit));
    });
}

/// Ends a session, for a caller who waits until it is ended.
pub(super) async fn close(mut connection: Connection) {
    quit(&mut connection.smtp).await;
}

async fn quit(smtp: &mut AsyncSmtpConnection) {
    // An impolite end does no harm: there is no mail in this session.
    drop(timeout(COURTESY_WAIT, smtp.abort()).await);
}
