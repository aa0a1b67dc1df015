//! The plain text in which mail protocols agree to go over to TLS.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::connect::explain;
use crate::excerpt::excerpt;

/// Longest line that is read: four times what SMTP allows for a reply.
const LONGEST_LINE: usize = 2048;
/// Most lines of one reply: far more than any server has capabilities.
const MOST_LINES: usize = 100;
/// The words of the configuration.
pub(super) const WORDS: [&str; 3] = ["smtp", "imap", "pop3"];

/// A protocol that begins without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartTls {
    Smtp,
    Imap,
    Pop3,
}

/// Why TLS could not be agreed on. The text follows on the name of the server.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartTlsError {
    #[error("breaks off before TLS begins: {}", explain(.0))]
    Io(#[from] io::Error),
    #[error("does not speak {protocol}: its greeting is `{answer}`")]
    Greeting { protocol: &'static str, answer: String },
    #[error("does not begin TLS: to `{command}` it answers `{answer}`")]
    Refused { command: &'static str, answer: String },
    #[error("does not offer STARTTLS in its answer to `EHLO`")]
    NotOffered,
    #[error("sends a line of more than {LONGEST_LINE} bytes, or more than {MOST_LINES} lines, before TLS begins")]
    Endless,
}

impl StartTls {
    pub(super) fn from_word(word: &str) -> Option<Self> {
        match word {
            "smtp" => Some(StartTls::Smtp),
            "imap" => Some(StartTls::Imap),
            "pop3" => Some(StartTls::Pop3),
            _ => None,
        }
    }

    pub(super) const fn default_port(self) -> u16 {
        match self {
            StartTls::Smtp => 25,
            StartTls::Imap => 143,
            StartTls::Pop3 => 110,
        }
    }

    /// Brings the connection to the point at which the TLS handshake begins.
    pub(super) async fn negotiate(self, stream: &mut TcpStream) -> Result<(), StartTlsError> {
        match self {
            StartTls::Smtp => smtp(stream).await,
            StartTls::Imap => imap(stream).await,
            StartTls::Pop3 => pop3(stream).await,
        }
    }
}

async fn smtp(stream: &mut TcpStream) -> Result<(), StartTlsError> {
    let greeting = smtp_reply(stream).await?;
    if !greeting.starts_with("220") {
        return Err(StartTlsError::Greeting { protocol: "SMTP", answer: excerpt(greeting.as_bytes()) });
    }
    // An address literal, because this machine may have no name that a strict server accepts.
    let own = match stream.local_addr()?.ip() {
        std::net::IpAddr::V4(ip) => format!("[{ip}]"),
        std::net::IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    };
    stream.write_all(format!("EHLO {own}\r\n").as_bytes()).await?;
    let offers = smtp_reply(stream).await?;
    if !offers.starts_with("250") {
        return Err(StartTlsError::Refused { command: "EHLO", answer: excerpt(offers.as_bytes()) });
    }
    let offered = offers.lines().any(|line| line.get(4..).is_some_and(|word| word.eq_ignore_ascii_case("STARTTLS")));
    if !offered {
        return Err(StartTlsError::NotOffered);
    }
    stream.write_all(b"STARTTLS\r\n").await?;
    accepted("STARTTLS", &smtp_reply(stream).await?, "220")
}

async fn imap(stream: &mut TcpStream) -> Result<(), StartTlsError> {
    let greeting = line(stream).await?;
    if !greeting.to_ascii_uppercase().starts_with("* OK") {
        return Err(StartTlsError::Greeting { protocol: "IMAP", answer: excerpt(greeting.as_bytes()) });
    }
    stream.write_all(b"w1 STARTTLS\r\n").await?;
    for _ in 0..MOST_LINES {
        let answer = line(stream).await?;
        if !answer.starts_with('*') {
            return accepted("STARTTLS", &answer, "w1 OK");
        }
    }
    Err(StartTlsError::Endless)
}

async fn pop3(stream: &mut TcpStream) -> Result<(), StartTlsError> {
    let greeting = line(stream).await?;
    if !greeting.starts_with("+OK") {
        return Err(StartTlsError::Greeting { protocol: "POP3", answer: excerpt(greeting.as_bytes()) });
    }
    stream.write_all(b"STLS\r\n").await?;
    accepted("STLS", &line(stream).await?, "+OK")
}

fn accepted(command: &'static str, answer: &str, begin: &str) -> Result<(), StartTlsError> {
    if answer.to_ascii_uppercase().starts_with(&begin.to_ascii_uppercase()) {
        return Ok(());
    }
    Err(StartTlsError::Refused { command, answer: excerpt(answer.as_bytes()) })
}

/// A reply of one or more lines, joined by line ends.
async fn smtp_reply(stream: &mut TcpStream) -> Result<String, StartTlsError> {
    let mut reply = String::new();
    for _ in 0..MOST_LINES {
        let line = line(stream).await?;
        let goes_on = line.as_bytes().get(3) == Some(&b'-');
        reply.push_str(&line);
        if !goes_on {
            return Ok(reply);
        }
        reply.push('\n');
    }
    Err(StartTlsError::Endless)
}

/// One line without its end. It is read byte by byte, so that nothing of the TLS handshake is swallowed.
async fn line(stream: &mut TcpStream) -> Result<String, StartTlsError> {
    let mut line = Vec::new();
    while line.len() < LONGEST_LINE {
        match stream.read_u8().await? {
            b'\n' => {
                let text = String::from_utf8_lossy(&line);
                return Ok(text.trim_end_matches('\r').to_owned());
            }
            byte => line.push(byte),
        }
    }
    Err(StartTlsError::Endless)
}
