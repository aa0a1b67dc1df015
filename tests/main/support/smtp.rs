//! A mail server of the test's own: `smtp_server.py`, started with certificates made for it, stopped on drop.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde::Deserialize;
use serde_json::{Value, json};

/// The control port answers at once, or when it has written down thousands of mails on a busy machine; a test must not
/// hang on it.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(60);

/// The ports, all on 127.0.0.1.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Ports {
    /// STARTTLS and AUTH (user `u`, password `p`) are required.
    pub(crate) starttls: u16,
    /// TLS from the first byte, AUTH is required.
    pub(crate) tls: u16,
    /// Neither.
    pub(crate) plain: u16,
    control: u16,
}

/// A mail that the server took.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ReceivedMail {
    /// When the server took it, in seconds since 1970.
    pub(crate) time: f64,
    /// The envelope's sender.
    pub(crate) mail_from: String,
    /// The envelope's recipients.
    pub(crate) rcpt: Vec<String>,
    /// Whether it came over TLS.
    pub(crate) tls: bool,
    /// Whether the client had logged in.
    pub(crate) auth: bool,
    /// On which port.
    pub(crate) port: u16,
    /// Headers and body, as they came.
    pub(crate) data: String,
    /// The subject, decoded.
    pub(crate) subject: String,
    /// The text part, decoded, with `\n` as line break.
    pub(crate) text: Option<String>,
    /// The HTML part, decoded.
    pub(crate) html: Option<String>,
}

impl ReceivedMail {
    /// A header, unfolded. It must stand there at most once.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let head = self.data.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n ", " ");
        let start = format!("{name}: ").to_lowercase();
        let mut found = head.split("\r\n").filter(|line| line.to_lowercase().starts_with(&start));
        let value = found.next().map(|line| line[start.len()..].to_owned());
        assert!(found.next().is_none(), "{name} stands more than once in {head}");
        value
    }
}

/// SMTP sessions as the server counts them.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Sessions {
    /// Open now.
    pub(crate) open: u32,
    /// Open at once, at most.
    pub(crate) most_open: u32,
    /// Opened in all.
    pub(crate) opened: u32,
}

/// A running mail server.
pub(crate) struct SmtpServer {
    child: Child,
    ports: Ports,
    files: tempfile::TempDir,
}

impl SmtpServer {
    /// Starts one; it is ready when this returns.
    pub(crate) fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        write_certificates(files.path());
        let mut child = Command::new(python())
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/main/support/smtp_server.py"))
            .args([files.path().join("cert.pem"), files.path().join("key.pem")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ports = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("the mail server did not start ({error}); its words are above"));
        Self { child, ports, files }
    }

    /// Where it listens.
    pub(crate) fn ports(&self) -> Ports {
        self.ports
    }

    /// The certificate authority that signed the server's certificate (for `localhost` and 127.0.0.1).
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.files.path().join("ca.pem")
    }

    /// All mails taken so far, in order.
    pub(crate) fn mails(&self) -> Vec<ReceivedMail> {
        serde_json::from_value(self.control("GET", "/mail", None)).unwrap()
    }

    /// Forgets mails, faults and counters.
    pub(crate) fn clear(&self) {
        self.control("DELETE", "/mail", None);
    }

    /// Makes a step fail: `{"at": "RCPT", "reply": "451 4.3.0 later", "count": 1}`; see `smtp_server.py`.
    pub(crate) fn fault(&self, fault: Value) {
        self.control("POST", "/fault", Some(fault));
    }

    /// How many faults did not strike yet.
    pub(crate) fn pending_faults(&self) -> usize {
        self.control("GET", "/fault", None).as_array().unwrap().len()
    }

    /// What AUTH takes from now on.
    pub(crate) fn set_password(&self, password: &str) {
        self.control("POST", "/password", Some(json!({ "password": password })));
    }

    /// Ends all open sessions, as a restart would.
    pub(crate) fn end_sessions(&self) {
        self.control("POST", "/end", None);
    }

    /// The sessions.
    pub(crate) fn sessions(&self) -> Sessions {
        serde_json::from_value(self.control("GET", "/sessions", None)).unwrap()
    }

    fn control(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports.control)).unwrap();
        stream.set_read_timeout(Some(CONTROL_TIMEOUT)).unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {method} {path}"));
        assert!(head.starts_with("HTTP/1.1 200 "), "{method} {path}: {head}");
        serde_json::from_str(body).unwrap()
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin/python");
    assert!(python.exists(), "{} is missing: run tests/run once, it installs what the tests need", python.display());
    python
}

pub(super) fn write_certificates(dir: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(DnType::CommonName, "Test Authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    for (name, pem) in [("ca.pem", issuer.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())] {
        std::fs::write(dir.join(name), pem).unwrap();
    }
}
