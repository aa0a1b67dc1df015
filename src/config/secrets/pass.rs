//! The `pass` password store: the first line of `pass show NAME`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::sources::MOST_BYTES;

/// `gpg` answers in well under a second; what takes longer waits for a person at a prompt, and no check may hang on it.
const PASS_TIMEOUT: Duration = Duration::from_secs(10);

/// `pass` complains in a line or two.
const MOST_COMPLAINT_BYTES: u64 = 4 * 1024;

/// The first line of what `pass` shows, or why there is none.
pub(super) async fn show(name: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
    if name.starts_with('-') || name.split('/').any(|part| part == "..") {
        return Err("no name in the password store begins with `-` or has `..`".to_owned());
    }
    let program = program(environment).ok_or("`pass` is not installed, or not in the PATH of watchbell")?;
    let child = Command::new(program)
        .args(["show", name])
        .env_clear()
        // Not what begins with WATCHBELL_: the store has no use for the secrets of others.
        .envs(environment.iter().filter(|(name, _)| !name.starts_with("WATCHBELL_")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("`pass` cannot be started: {}", error.kind()))?;
    match tokio::time::timeout(PASS_TIMEOUT, finish(child)).await {
        Ok(Ok(answer)) => answer.first_line(),
        Ok(Err(error)) => Err(format!("`pass` cannot be read: {}", error.kind())),
        Err(_) => Err(format!(
            "`pass` gave no answer within {} seconds; hint: its key may be locked and waiting for a passphrase",
            PASS_TIMEOUT.as_secs()
        )),
    }
}

struct Answer {
    succeeded: bool,
    status: String,
    output: Vec<u8>,
    complaint: String,
}

async fn finish(mut child: Child) -> std::io::Result<Answer> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (output, complaint) = tokio::join!(read(stdout, MOST_BYTES + 1), read(stderr, MOST_COMPLAINT_BYTES));
    let status = child.wait().await?;
    let complaint = String::from_utf8_lossy(&complaint?).into_owned();
    Ok(Answer { succeeded: status.success(), status: status.to_string(), output: output?, complaint })
}

/// Up to `most` bytes; the pipe is closed then, so that a program that goes on writing ends.
async fn read(pipe: Option<impl tokio::io::AsyncRead + Unpin>, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(most).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

impl Answer {
    fn first_line(&self) -> Result<String, String> {
        if self.output.len() as u64 > MOST_BYTES {
            return Err(format!("`pass` shows more than {MOST_BYTES} bytes"));
        }
        if !self.succeeded {
            return Err(self.refusal());
        }
        let text = std::str::from_utf8(&self.output).map_err(|_| "it is not UTF-8 text".to_owned())?;
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        // `pass show FOLDER` succeeds, with the folder's name and a tree of what is in it.
        let is_tree = lines.next().is_some_and(|line| ["├", "└", "|--", "`--"].iter().any(|c| line.starts_with(c)));
        if is_tree {
            return Err("it is a folder of the password store; hint: name one of its entries".to_owned());
        }
        Ok(first.to_owned())
    }

    /// In our own words: what `pass` and `gpg` print is not ours to repeat.
    fn refusal(&self) -> String {
        let complaint = self.complaint.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| complaint.contains(word));
        if says(&["is not in the password store"]) {
            "it is not in the password store of the user that runs watchbell".to_owned()
        } else if says(&["decryption failed", "no secret key", "pinentry", "ioctl", "timeout", "cancel"]) {
            "`pass` cannot decrypt it: the key is locked or missing; hint: run `pass show` once as the user that runs \
             watchbell, or use a key without a passphrase"
                .to_owned()
        } else {
            format!("`pass` failed ({}); hint: run `pass show` as the user that runs watchbell", self.status)
        }
    }
}

/// The program, looked for here so that "not installed" is told apart from everything else that can go wrong.
fn program(environment: &BTreeMap<String, String>) -> Option<PathBuf> {
    let path = environment.get("PATH")?;
    std::env::split_paths(path).map(|folder| folder.join("pass")).find(|file| file.is_absolute() && is_program(file))
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.is_file()
}
