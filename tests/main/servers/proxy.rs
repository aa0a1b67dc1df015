//! The network that fails as it is told to.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::sql::{rows, try_rows};

use super::{is_silent, text};

/// Answers each byte with itself, and one with `greeting` first.
async fn echo(greeting: u8) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                stream.write_all(&[greeting]).await.ok();
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.addr()).await.unwrap()
}

async fn answer(stream: &mut TcpStream, byte: u8) -> u8 {
    stream.write_all(&[byte]).await.unwrap();
    stream.read_u8().await.unwrap()
}

#[tokio::test]
async fn it_passes_what_comes_and_its_end() {
    let proxy = Proxy::start(echo(b'a').await).await;
    let mut stream = connect(&proxy).await;
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (mut from, mut to) = stream.split();
    let mut received = Vec::new();
    let send = async {
        to.write_all(&sent).await?;
        to.shutdown().await
    };
    tokio::try_join!(send, from.read_to_end(&mut received)).unwrap();
    assert!(received == sent, "{} bytes came of {}", received.len(), sent.len());
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn a_cut_closes_and_refuses_until_it_is_healed() {
    let proxy = Proxy::start(echo(b'a').await).await;
    let mut stream = connect(&proxy).await;
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
    proxy.cut();
    assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    let refused = TcpStream::connect(proxy.addr()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    proxy.heal();
    assert_eq!(connect(&proxy).await.read_u8().await.unwrap(), b'a');
}

#[tokio::test]
async fn a_reset_ends_connections_and_new_ones_work() {
    let proxy = Proxy::start(echo(b'a').await).await;
    let mut stream = connect(&proxy).await;
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
    proxy.reset_all();
    assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut new = connect(&proxy).await;
    assert_eq!(new.read_u8().await.unwrap(), b'a');
    assert_eq!(answer(&mut new, b'x').await, b'x');
}

#[tokio::test]
async fn a_black_hole_keeps_connections_and_passes_nothing_until_it_is_healed() {
    let proxy = Proxy::start(echo(b'a').await).await;
    let mut old = connect(&proxy).await;
    assert_eq!(old.read_u8().await.unwrap(), b'a');
    proxy.blackhole();
    let mut new = connect(&proxy).await;
    old.write_all(b"x").await.unwrap();
    assert!(is_silent(old.read_u8()).await);
    assert!(is_silent(new.read_u8()).await);
    proxy.heal();
    assert_eq!(old.read_u8().await.unwrap(), b'x');
    assert_eq!(new.read_u8().await.unwrap(), b'a');
}

#[tokio::test]
async fn a_black_hole_may_be_cut() {
    let proxy = Proxy::start(echo(b'a').await).await;
    let mut stream = connect(&proxy).await;
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
    proxy.blackhole();
    proxy.cut();
    assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_delay_is_each_way() {
    const DELAY: Duration = Duration::from_millis(150);
    let proxy = Proxy::start(echo(b'a').await).await;
    let mut stream = connect(&proxy).await;
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
    proxy.delay(DELAY);
    let began = Instant::now();
    assert_eq!(answer(&mut stream, b'x').await, b'x');
    assert!(began.elapsed() >= 2 * DELAY, "{:?}", began.elapsed());
}

#[tokio::test]
async fn new_connections_go_to_the_new_target() {
    let proxy = Proxy::start(echo(b'a').await).await;
    let mut old = connect(&proxy).await;
    assert_eq!(old.read_u8().await.unwrap(), b'a');
    proxy.set_target(echo(b'b').await);
    assert_eq!(connect(&proxy).await.read_u8().await.unwrap(), b'b');
    assert_eq!(answer(&mut old, b'x').await, b'x');
}

#[tokio::test]
async fn a_target_that_is_not_there_ends_the_connection() {
    let proxy = Proxy::start(echo(b'a').await).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    proxy.set_target(nobody);
    assert!(connect(&proxy).await.read_u8().await.is_err());
}

#[tokio::test]
async fn a_database_is_reached_through_it() {
    let direct = Postgres::shared().await.fresh_database().await;
    let proxy = Proxy::start(Postgres::shared().await.address()).await;
    let url = proxy.instead_of(&direct);
    assert_eq!(rows(&url, "SELECT 1").await, [[text("1")]]);
    proxy.cut();
    assert!(try_rows(&url, "SELECT 1").await.is_err());
}
