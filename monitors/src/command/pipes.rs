//! What a program is told and what is heard of it, within bounds.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use watchbell_contract::Revealed;

/// What is kept of standard output: as much as Nagios keeps.
pub(super) const KEPT_OUTPUT: usize = 8 * 1024;
/// What is kept of standard error, which is shown only when a program fails in an unusual way.
const KEPT_ERRORS: usize = 1024;
/// What is read before a program counts as one that never stops printing. Reading on would only burn CPU.
pub(super) const MOST_OUTPUT: u64 = 64 * 1024 * 1024;
/// The three standard streams of one program.
pub(super) struct Pipes {
    stdin: Option<ChildStdin>,
    pub(super) stdout: Capture<ChildStdout>,
    pub(super) stderr: Capture<ChildStderr>,
}

impl Pipes {
    /// Takes over the child's ends.
    pub(super) fn of(child: &mut Child) -> Self {
        Self {
            stdin: child.stdin.take(),
            stdout: Capture::new(child.stdout.take(), KEPT_OUTPUT),
            stderr: Capture::new(child.stderr.take(), KEPT_ERRORS),
        }
    }

    /// Tells what there is to tell, and listens until nobody holds the other ends; `false`: it prints without end.
    pub(super) async fn talk(&mut self, text: Option<&Revealed>) -> bool {
        let stdin = self.stdin.take();
        let feed = async {
            if let (Some(mut pipe), Some(text)) = (stdin, text) {
                // A program need not read what it is given, so a broken pipe is no fault.
                drop(pipe.write_all(text.as_str().as_bytes()).await);
            }
            Ok(())
        };
        tokio::try_join!(feed, self.stdout.drain(), self.stderr.drain()).is_ok()
    }
}

/// A program that prints and prints.
struct Endless;

/// The beginning of a stream; the rest is read and dropped, so that the writer is not blocked.
pub(super) struct Capture<R> {
    pipe: Option<R>,
    /// What is kept of it.
    pub(super) kept: Vec<u8>,
    most: usize,
    total: u64,
}

impl<R: AsyncRead + Unpin> Capture<R> {
    fn new(pipe: Option<R>, most: usize) -> Self {
        Self { pipe, kept: Vec::new(), most, total: 0 }
    }

    /// Whether there was more than is kept.
    pub(super) fn was_cut(&self) -> bool {
        self.total > self.most as u64
    }

    /// Reads to the end, or until it is clear that there is none.
    async fn drain(&mut self) -> Result<(), Endless> {
        let mut buffer = vec![0; 16 * 1024];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer).await {
                Ok(0) | Err(_) => self.pipe = None,
                Ok(read) => {
                    let room = self.most - self.kept.len();
                    self.kept.extend_from_slice(&buffer[..read.min(room)]);
                    self.total += read as u64;
                    if self.total > MOST_OUTPUT {
                        return Err(Endless);
                    }
                }
            }
        }
        Ok(())
    }
}
