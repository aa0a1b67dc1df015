//! Where the mail of all nodes goes: an SMTP server that takes everything and writes down when, what, and from which
//! node it came, since each node has a port of its own.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use super::now;
use crate::support::sql::block_on;

/// From the taking of a mail to the answer that its sender waits for: here lies the one gap in which mail may double.
const ANSWER_AFTER: Duration = Duration::from_millis(25);

/// A mail that came.
#[derive(Debug, Clone)]
pub(crate) struct Mail {
    /// When it was taken, in ms since 1970.
    pub(crate) at: i64,
    /// The node that sent it.
    pub(crate) node: String,
    /// `notifications.uuid`, of the Message-ID.
    pub(crate) uuid: String,
    pub(crate) recipient: String,
    pub(crate) subject: String,
}

/// See the module. It has a thread of its own.
pub(crate) struct Mailbox {
    mails: Arc<Mutex<Vec<Mail>>>,
    runtime: Option<Runtime>,
}

impl Mailbox {
    pub(crate) fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { mails: Arc::default(), runtime: Some(runtime) }
    }

    /// A port for the mail of a node: what `mail.url` is to be.
    pub(crate) fn url_for(&self, node: &str) -> String {
        let handle = self.runtime.as_ref().unwrap().handle().clone();
        let (node, mails) = (node.to_owned(), Arc::clone(&self.mails));
        block_on(async move {
            let listening = handle.spawn(async { TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap() });
            let listener = listening.await.unwrap();
            let address = listener.local_addr().unwrap();
            handle.spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(take(client, node.clone(), Arc::clone(&mails)));
                }
            });
            format!("smtp://{address}")
        })
    }

    /// All mails so far, in the order in which they were taken.
    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// One SMTP session. That it breaks is part of the game.
async fn take(client: TcpStream, node: String, mails: Arc<Mutex<Vec<Mail>>>) -> Option<()> {
    let (reader, mut writer) = client.into_split();
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"220 box.test ESMTP\r\n").await.ok()?;
    let mut recipient = String::new();
    while let Some(line) = lines.next_line().await.ok()? {
        let word = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let reply: &[u8] = match word.as_str() {
            "EHLO" => b"250-box.test\r\n250 8BITMIME\r\n",
            "RCPT" => {
                recipient = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                b"250 OK\r\n"
            }
            "DATA" => {
                writer.write_all(b"354 go on\r\n").await.ok()?;
                let mut head = Vec::new();
                let mut is_head = true;
                loop {
                    let line = lines.next_line().await.ok()??;
                    if line == "." {
                        break;
                    }
                    is_head &= !line.is_empty();
                    if is_head {
                        head.push(line);
                    }
                }
                let mail = read(&head, &node, &recipient);
                mails.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
                tokio::time::sleep(ANSWER_AFTER).await;
                b"250 taken\r\n"
            }
            "QUIT" => {
                writer.write_all(b"221 bye\r\n").await.ok()?;
                return Some(());
            }
            _ => b"250 OK\r\n",
        };
        writer.write_all(reply).await.ok()?;
    }
    Some(())
}

fn read(head: &[String], node: &str, recipient: &str) -> Mail {
    let header = |name: &str| head.iter().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let uuid = header("Message-ID: ").trim_start_matches('<').split('@').next().unwrap_or_default();
    Mail {
        at: now(),
        node: node.to_owned(),
        uuid: uuid.to_owned(),
        recipient: recipient.to_owned(),
        subject: header("Subject: ").to_owned(),
    }
}
