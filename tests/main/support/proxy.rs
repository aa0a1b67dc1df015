//! A TCP proxy that makes a network fail: it cuts, resets, swallows and delays.
//!
//! It has threads of its own, so that it works while a test waits, and on the wall clock whatever a test's clock does.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// The proxy obeys at once; this is for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many connections wait to be accepted.
const BACKLOG: u32 = 1024;
/// How much is passed at once: [`Proxy::delay`] is per such a chunk.
const CHUNK_BYTES: usize = 16 * 1024;

/// What happens to connections.
#[derive(Clone, Copy, PartialEq)]
enum Traffic {
    Passes,
    /// New connections are refused.
    Cut,
    /// Connections are accepted and stay, and nothing passes.
    Swallowed,
}

/// How connections end that were opened before the latest order to end them.
#[derive(Clone, Copy)]
enum Ending {
    Close,
    Reset,
}

#[derive(Clone, Copy)]
struct Orders {
    target: SocketAddr,
    traffic: Traffic,
    delay: Duration,
    /// Raised by each order to end the open connections.
    generation: u64,
    ending: Ending,
}

#[derive(Default)]
struct Counts {
    listening: AtomicUsize,
    open: AtomicUsize,
    accepted: AtomicUsize,
}

/// A running proxy on 127.0.0.1.
pub(crate) struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Orders>,
    counts: Arc<Counts>,
    runtime: Option<Runtime>,
    /// Holds the port, without listening, so that nobody takes it during a cut.
    _port: TcpSocket,
}

impl Proxy {
    /// Starts one in front of `target`.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let port = bound((Ipv4Addr::LOCALHOST, 0).into());
        let address = port.local_addr().unwrap();
        let first =
            Orders { target, traffic: Traffic::Passes, delay: Duration::ZERO, generation: 0, ending: Ending::Close };
        let (orders, _) = watch::channel(first);
        let counts = Arc::<Counts>::default();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(listen(address, orders.subscribe(), Arc::clone(&counts)));
        let proxy = Self { address, orders, counts, runtime: Some(runtime), _port: port };
        proxy.wait("listen", |counts| counts.listening.load(Ordering::SeqCst) == 1);
        proxy
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.address
    }

    /// A URL with this proxy in the place of its host and port.
    pub(crate) fn instead_of(&self, url: &str) -> String {
        let mut url = url::Url::parse(url).unwrap();
        url.set_ip_host(self.address.ip()).unwrap();
        url.set_port(Some(self.address.port())).unwrap();
        url.into()
    }

    /// Closes all connections and refuses new ones, until [`Proxy::heal`].
    pub(crate) fn cut(&self) {
        self.order(|orders| {
            orders.traffic = Traffic::Cut;
            orders.ending = Ending::Close;
            orders.generation += 1;
        });
        self.wait("refuse connections", |counts| counts.listening.load(Ordering::SeqCst) == 0);
        self.wait("close its connections", |counts| counts.open.load(Ordering::SeqCst) == 0);
    }

    /// Resets all connections (RST); new ones are accepted.
    pub(crate) fn reset_all(&self) {
        self.order(|orders| {
            orders.ending = Ending::Reset;
            orders.generation += 1;
        });
    }

    /// Accepts and keeps connections but passes no byte, until [`Proxy::heal`]: what was swallowed is passed then.
    pub(crate) fn blackhole(&self) {
        self.order(|orders| orders.traffic = Traffic::Swallowed);
    }

    /// Ends a cut or a black hole; a delay stays.
    pub(crate) fn heal(&self) {
        self.order(|orders| orders.traffic = Traffic::Passes);
        self.wait("listen again", |counts| counts.listening.load(Ordering::SeqCst) == 1);
    }

    /// Delays each chunk by this much, each way.
    pub(crate) fn delay(&self, delay: Duration) {
        self.order(|orders| orders.delay = delay);
    }

    /// Where connections go that are opened from now on.
    pub(crate) fn set_target(&self, target: SocketAddr) {
        self.order(|orders| orders.target = target);
    }

    /// How many connections it has accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.orders.send_modify(change);
    }

    fn wait(&self, what: &str, is_so: impl Fn(&Counts) -> bool) {
        let began = Instant::now();
        while !is_so(&self.counts) {
            assert!(began.elapsed() < PATIENCE, "the proxy does not {what} within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Waiting for it is not allowed in an asynchronous test.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Bound and not listening: others may be bound to the same port beside it, and nobody else is given it.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

async fn listen(address: SocketAddr, mut orders: watch::Receiver<Orders>, counts: Arc<Counts>) {
    loop {
        if orders.wait_for(|orders| orders.traffic != Traffic::Cut).await.is_err() {
            return;
        }
        let listener = bound(address).listen(BACKLOG).unwrap();
        counts.listening.store(1, Ordering::SeqCst);
        accept(&listener, &orders, &counts).await;
        drop(listener);
        counts.listening.store(0, Ordering::SeqCst);
    }
}

/// Accepts connections until there is a cut.
async fn accept(listener: &TcpListener, orders: &watch::Receiver<Orders>, counts: &Arc<Counts>) {
    let mut changes = orders.clone();
    loop {
        tokio::select! {
            biased;
            _ = changes.wait_for(|orders| orders.traffic == Traffic::Cut) => return,
            Ok((client, _)) = listener.accept() => {
                counts.accepted.fetch_add(1, Ordering::SeqCst);
                counts.open.fetch_add(1, Ordering::SeqCst);
                let (orders, counts) = (orders.clone(), Arc::clone(counts));
                tokio::spawn(async move {
                    serve(client, orders).await;
                    counts.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        }
    }
}

/// Serves one connection until either side ends it, or an order does.
async fn serve(mut client: TcpStream, mut orders: watch::Receiver<Orders>) {
    let generation = orders.borrow().generation;
    let mut ends = orders.clone();
    let mut server = None;
    let passing = async {
        let target = allowed(&mut orders).await?.target;
        let server = server.insert(TcpStream::connect(target).await?);
        server.set_nodelay(true)?;
        client.set_nodelay(true)?;
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        tokio::try_join!(pass(from_client, to_server, orders.clone()), pass(from_server, to_client, orders.clone()))
    };
    tokio::select! {
        _ = passing => {}
        Ok(orders) = ends.wait_for(|orders| orders.generation != generation) => {
            if matches!(orders.ending, Ending::Reset) {
                // It may be closed already.
                client.set_zero_linger().ok();
                server.as_ref().map(TcpStream::set_zero_linger);
            }
        }
    }
}

/// Passes what comes, and its end.
async fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut orders: watch::Receiver<Orders>) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = from.read(&mut chunk).await?;
        let delay = orders.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        allowed(&mut orders).await?;
        match length {
            0 => return to.shutdown().await,
            _ => to.write_all(&chunk[..length]).await?,
        }
    }
}

/// Waits until bytes may pass.
async fn allowed(orders: &mut watch::Receiver<Orders>) -> io::Result<Orders> {
    let orders = orders.wait_for(|orders| orders.traffic == Traffic::Passes).await;
    orders.map(|orders| *orders).map_err(io::Error::other)
}
