//! A Postfix of the test's own: STARTTLS, TLS and AUTH on loopback, its queue and its mailboxes in a temporary folder.
//!
//! Nothing of the machine's own mail system is read or touched. It ends with the test, also with one that was killed.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::smtp::write_certificates;

/// It starts within 3 s on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Somebody else may take a port between its choice and its use.
const STARTS: u32 = 5;
/// Whom mailboxes belong to where the tests run as root: Postfix delivers as anybody but root.
const NOBODY: u32 = 65534;

/// The mailboxes of the domain `y.test`; others are unknown, and `hard` and `tmp` are refused by a rule.
const MAILBOXES: [&str; 5] = ["a", "b", "c", "hard", "tmp"];
/// How a recipient is refused for good.
pub(crate) const HARD: &str = "550 5.1.1";
/// And for now.
pub(crate) const TEMPORARY: &str = "451 4.3.0";

/// Prepares, as root, what must belong to others; obeys orders, each by a line that it repeats; and cleans up once the
/// standard input is closed. `drain` waits until nothing is left on its way to a mailbox.
const SERVE: &str = r#"
set -e
chown postfix "$1/data"
chown "$2" "$1/vmail"
printf %s "$3" | saslpasswd2 -p -c -f "$1/etc/sasl/db" -u mx.test u
chown postfix "$1/etc/sasl/db"
start() {
    : >"$1/log/mail.log"
    postfix -c "$1/etc" start-fg </dev/null >>"$1/log/start" 2>&1 &
}
stop() { postfix -c "$1/etc" stop >>"$1/log/start" 2>&1 || true; wait; }
drain() {
    for _ in $(seq 1200); do
        left=$(cd "$1/spool" && find maildrop incoming active deferred -type f 2>/dev/null || true)
        [ -n "$left" ] || return 0
        sleep 0.05
    done
    echo "stuck: $left"
}
trap 'stop "$1"; rm -rf "$1"' EXIT
umask 022
echo ready
while read -r order; do
    case "$order" in
    reload) postfix -c "$1/etc" reload >>"$1/log/start" 2>&1 ;;
    *) "$order" "$1" ;;
    esac
    echo "$order"
done
"#;

/// A mail in a mailbox.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct StoredMail {
    /// The part of the address before `@y.test`.
    pub(crate) mailbox: String,
    /// How it came, as its `Received` says: `ESMTPSA` is with TLS and with a login.
    pub(crate) protocol: String,
    /// All headers, in order, decoded.
    pub(crate) headers: Vec<(String, String)>,
    /// The subject, decoded.
    pub(crate) subject: String,
    /// The text part.
    pub(crate) text: Option<String>,
    /// The HTML part.
    pub(crate) html: Option<String>,
}

impl StoredMail {
    /// A header. It must stand there at most once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} stands more than once in {:?}", self.headers);
        value
    }
}

/// A Postfix with one login, `u` with the password `p`, that it wants over TLS only.
pub(crate) struct Postfix {
    supervisor: Child,
    orders: Option<ChildStdin>,
    folder: tempfile::TempDir,
    starttls: u16,
    tls: u16,
}

impl Postfix {
    /// Starts one; it is ready when this returns.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
        for name in ["etc", "etc/sasl", "spool", "data", "vmail", "log"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        write_certificates(&folder.path().join("etc"));
        let mut supervisor = supervise(folder.path());
        let orders = supervisor.stdin.take();
        let mut postfix = Self { supervisor, orders, folder, starttls: 0, tls: 0 };
        postfix.expect_answer("ready");
        postfix.write_main(true);
        postfix.write_sasl();
        for _ in 0..STARTS {
            (postfix.starttls, postfix.tls) = free_ports();
            postfix.write_master();
            if postfix.try_serve() {
                return postfix;
            }
        }
        panic!("Postfix does not start:\n{}", postfix.log());
    }

    /// `mail.url` of the port that wants STARTTLS, with this password.
    pub(crate) fn starttls_url(&self, password: &str) -> String {
        format!("smtp://u:{password}@localhost:{}?tls=required", self.starttls)
    }

    /// `mail.url` of the port with TLS from the first byte, with this password.
    pub(crate) fn tls_url(&self, password: &str) -> String {
        format!("smtps://u:{password}@localhost:{}", self.tls)
    }

    /// The certificate authority that signed its certificate (for `localhost`).
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.path("etc/ca.pem")
    }

    /// Stops it, as for an upgrade.
    pub(crate) fn stop(&mut self) {
        self.order("stop");
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.starttls)).is_ok() {
            assert!(began.elapsed() < PATIENCE, "Postfix still listens");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts it again, on the same ports.
    pub(crate) fn start_again(&mut self) {
        assert!((0..STARTS).any(|_| self.try_serve()), "Postfix does not start again:\n{}", self.log());
    }

    /// From now on it takes mail for `tmp@y.test`; sessions that are open keep the rule that they began with.
    pub(crate) fn accept_tmp(&mut self) {
        self.write_main(false);
        self.order("reload");
    }

    /// All mails, in the order in which they were taken, once nothing is left on its way to a mailbox.
    pub(crate) fn mails(&mut self) -> Vec<StoredMail> {
        self.order("drain");
        let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/main/support/read_maildirs.py");
        let output = Command::new("python3").arg(reader).arg(self.path("vmail")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.path(name)).unwrap_or_default();
        format!("{}{}", read("log/start"), read("log/mail.log"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn try_serve(&mut self) -> bool {
        self.order("start");
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if [self.starttls, self.tls].iter().all(|port| is_listening(*port)) && self.is_running() {
                return true;
            }
            if self.log().contains("Address already in use") {
                self.order("stop");
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("Postfix does not start:\n{}", self.log());
    }

    fn is_running(&self) -> bool {
        fs::metadata(self.path("spool/pid/master.pid")).is_ok()
    }

    fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().unwrap();
        orders.write_all(format!("{order}\n").as_bytes()).unwrap();
        self.expect_answer(order);
    }

    fn expect_answer(&mut self, wanted: &str) {
        let output = self.supervisor.stdout.as_mut().unwrap();
        let mut said = vec![0; wanted.len() + 1];
        let read = output.read_exact(&mut said);
        assert!(
            read.is_ok() && said == format!("{wanted}\n").as_bytes(),
            "{wanted}: {read:?}, {said:?}, {}",
            self.log()
        );
    }

    fn write_main(&self, refuses_tmp: bool) {
        let directory = self.folder.path().display();
        let boxes: Vec<_> = MAILBOXES.iter().map(|name| format!("{{{name}@y.test = {name}/}}")).collect();
        let tmp = if refuses_tmp { format!(", {{tmp@y.test = {TEMPORARY} try again later}}") } else { String::new() };
        let uid = mailbox_owner(self.folder.path());
        let text = MAIN
            .replace("@DIR@", &directory.to_string())
            .replace("@BOXES@", &boxes.join(", "))
            .replace("@REFUSED@", &format!("{{hard@y.test = {HARD} this mailbox is gone}}{tmp}"))
            .replace("@OWNER@", &uid.to_string());
        let path = self.path("etc/main.cf");
        fs::write(path.with_extension("new"), text).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    fn write_master(&self) {
        let text = MASTER.replace("@STARTTLS@", &self.starttls.to_string()).replace("@TLS@", &self.tls.to_string());
        fs::write(self.path("etc/master.cf"), text).unwrap();
    }

    fn write_sasl(&self) {
        let database = self.path("etc/sasl/db");
        let text = format!(
            "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {}\nmech_list: PLAIN LOGIN\n",
            database.display()
        );
        fs::write(self.path("etc/sasl/smtpd.conf"), text).unwrap();
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!("Postfix's log ends with:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        // The supervisor reads the end of its input, stops Postfix and removes the folder.
        drop(self.orders.take());
        self.supervisor.wait().ok();
    }
}

/// A shell, as root, that obeys orders. It is in a process group of its own, so that Ctrl-C ends the tests, and it ends
/// because they did.
fn supervise(folder: &Path) -> Child {
    let owner = mailbox_owner(folder).to_string();
    let arguments = ["sh", "-c", SERVE, "sh", folder.to_str().unwrap(), &owner, "p"];
    let mut command = if fs::metadata(folder).unwrap().uid() == 0 {
        Command::new(arguments[0])
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", arguments[0]]);
        sudo
    };
    // Debian keeps its programs where only root looks.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    command.args(&arguments[1..]).env("PATH", path).process_group(0);
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    spawned.unwrap_or_else(|error| panic!("Postfix needs root, or `sudo` without a password: {error}"))
}

fn mailbox_owner(folder: &Path) -> u32 {
    match fs::metadata(folder).unwrap().uid() {
        0 => NOBODY,
        own => own,
    }
}

/// Two ports that are free now: Postfix cannot be told to choose.
fn free_ports() -> (u16, u16) {
    let [one, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    (one.local_addr().unwrap().port(), other.local_addr().unwrap().port())
}

fn is_listening(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

const MAIN: &str = "\
compatibility_level = 3.6
queue_directory = @DIR@/spool
data_directory = @DIR@/data
maillog_file = @DIR@/log/mail.log
maillog_file_prefixes = @DIR@/log
enable_long_queue_ids = yes
myhostname = mx.test
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
default_transport = error:5.1.2 nothing leaves this server
relay_transport = error:5.1.2 nothing leaves this server
virtual_mailbox_domains = y.test
virtual_mailbox_maps = inline:{ @BOXES@ }
virtual_mailbox_base = @DIR@/vmail
virtual_uid_maps = static:@OWNER@
virtual_gid_maps = static:@OWNER@
smtpd_tls_cert_file = @DIR@/etc/cert.pem
smtpd_tls_key_file = @DIR@/etc/key.pem
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
cyrus_sasl_config_path = @DIR@/etc/sasl
smtpd_sasl_local_domain = mx.test
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_sender_restrictions = reject_non_fqdn_sender
smtpd_recipient_restrictions = check_recipient_access inline:{ @REFUSED@ }, permit_sasl_authenticated, reject
";

const MASTER: &str = "\
127.0.0.1:@STARTTLS@ inet n - n - - smtpd
127.0.0.1:@TLS@ inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
";
