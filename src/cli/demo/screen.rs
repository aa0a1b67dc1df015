//! What the demo shows: a timeline, one line an event, and in between how long it has run and what it waits for.
//!
//! On a terminal the latter is one line that is written over, in colours unless `NO_COLOR` is set; elsewhere it is a
//! plain line now and then.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;

/// How often the waiting is told where nothing can be written over.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// How a line looks on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it is.
    Plain,
    /// Something is well.
    Good,
    /// Something broke.
    Bad,
    /// Something to read.
    Strong,
    /// Something beside.
    Faint,
}

impl Tone {
    /// The number of an SGR sequence (ECMA-48).
    fn code(self) -> Option<&'static str> {
        match self {
            Tone::Plain => None,
            Tone::Good => Some("32"),
            Tone::Bad => Some("31"),
            Tone::Strong => Some("1"),
            Tone::Faint => Some("2"),
        }
    }
}

/// Standard output, as the demo writes it.
pub(super) struct Screen<W> {
    out: W,
    began: Instant,
    is_terminal: bool,
    has_colours: bool,
    /// What stands in the line that is written over.
    live_line: Option<String>,
    told_at: Instant,
}

impl Screen<io::Stdout> {
    /// Standard output.
    pub(super) fn stdout() -> Self {
        let out = io::stdout();
        let is_terminal = out.is_terminal();
        let is_plain_terminal = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        // https://no-color.org: set and not empty.
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self::new(out, is_terminal && !is_plain_terminal, !is_refused)
    }
}

impl<W: Write> Screen<W> {
    fn new(out: W, is_terminal: bool, are_colours_wanted: bool) -> Self {
        let now = Instant::now();
        let has_colours = is_terminal && are_colours_wanted;
        Self { out, began: now, is_terminal, has_colours, live_line: None, told_at: now }
    }

    /// Since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// An event of the timeline, with the time at which it is told.
    pub(super) fn event(&mut self, tone: Tone, text: &str) -> io::Result<()> {
        let stamp = format!("{:5.1} s  ", self.elapsed().as_secs_f64());
        let line = format!("{}{}", self.painted(Tone::Faint, &stamp), self.painted(tone, text));
        self.line(&line)
    }

    /// Lines that belong to the event above them.
    pub(super) fn quote(&mut self, text: &str) -> io::Result<()> {
        for line in text.trim_end().lines() {
            let line = format!("         | {line}");
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    /// Text outside the timeline.
    pub(super) fn text(&mut self, tone: Tone, text: &str) -> io::Result<()> {
        let painted = self.painted(tone, text);
        self.line(&painted)
    }

    /// What is waited for. Call it often: it is told in measure.
    pub(super) fn waiting(&mut self, what: &str) -> io::Result<()> {
        let seconds = self.elapsed().as_secs();
        if self.is_terminal {
            let line = self.painted(Tone::Faint, &format!("{seconds:3} s    waiting {what}"));
            if self.live_line.as_ref() != Some(&line) {
                // Back to the first column, and what stood there is wiped out (ECMA-48 EL).
                write!(self.out, "\r\x1b[K{line}")?;
                self.live_line = Some(line);
            }
            return self.out.flush();
        }
        if self.told_at.elapsed() < TELL_EVERY {
            return Ok(());
        }
        self.line(&format!("{seconds:3} s    waiting {what}"))
    }

    /// Wipes out the line in which the waiting is told.
    pub(super) fn stop_waiting(&mut self) -> io::Result<()> {
        if self.live_line.take().is_some() {
            write!(self.out, "\r\x1b[K")?;
        }
        self.out.flush()
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        self.stop_waiting()?;
        self.told_at = Instant::now();
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }

    fn painted(&self, tone: Tone, text: &str) -> String {
        match tone.code().filter(|_| self.has_colours) {
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Screen, Tone};

    fn written(screen: Screen<Vec<u8>>) -> String {
        String::from_utf8(screen.out).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_gets_plain_lines_and_the_waiting_now_and_then() {
        let mut screen = Screen::new(Vec::new(), false, true);
        for _ in 0..12 {
            tokio::time::advance(Duration::from_secs(1)).await;
            screen.waiting("for the alert").unwrap();
        }
        screen.event(Tone::Bad, "it broke").unwrap();
        screen.quote("Monitor: x\n\nout of order\n").unwrap();
        assert_eq!(
            written(screen),
            "  5 s    waiting for the alert\n 10 s    waiting for the alert\n 12.0 s  it broke\n         | Monitor: x\n         |\n         | out of order\n"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_terminal_gets_one_live_line_that_gives_way() {
        let mut screen = Screen::new(Vec::new(), true, false);
        screen.waiting("for a").unwrap();
        screen.waiting("for b").unwrap();
        screen.waiting("for b").unwrap();
        screen.text(Tone::Strong, "done").unwrap();
        assert_eq!(
            written(screen),
            "\r\x1b[K  0 s    waiting for a\r\x1b[K  0 s    waiting for b\r\x1b[Kdone\n",
            "NO_COLOR is respected"
        );
        let mut screen = Screen::new(Vec::new(), true, true);
        screen.text(Tone::Good, "well").unwrap();
        assert_eq!(written(screen), "\x1b[32mwell\x1b[0m\n");
    }
}
