//! From the text of a command to what is wanted.

use chrono::TimeDelta;

use super::Wish;
use crate::domain::incident::IncidentId;
use crate::domain::text::one_line;

/// People write a line; what is longer is no command.
const MAX_TEXT_CHARS: usize = 2_000;
const MAX_NOTE_CHARS: usize = 500;
const MAX_SHOWN_CHARS: usize = 60;
/// A silence that nobody remembers hides real trouble; a longer one is written in SQL, where it is seen.
const LONGEST: TimeDelta = TimeDelta::days(30);
const SHORTEST: TimeDelta = TimeDelta::minutes(1);
const NAMES: [&str; 4] = ["status", "ack", "silence", "help"];
/// Below this likeness (Jaro-Winkler, 0 to 1) a word is no help.
const LEAST_LIKENESS: f64 = 0.75;

const ACK_USAGE: &str = "write `!ack 17`, `!ack 17 looking at it` or `!ack 17 for 2h looking at it`; the number of the \
                         incident stands in its messages and in `!status`";
const SILENCE_USAGE: &str = "write `!silence Orders arrive 2h`, `!silence 12 30m` or `!silence 12 off`";
const TIME_USAGE: &str = "write a time as `30m`, `2h`, `1d` or `1h30m`, from a minute to 30 days";

/// Reads one command, from its `!` on.
///
/// # Errors
/// How to write it instead, for the person who wrote it.
pub fn parse(text: &str) -> Result<Wish, String> {
    if text.chars().count() > MAX_TEXT_CHARS {
        return Err(format!("that is too long: a command has at most {MAX_TEXT_CHARS} characters"));
    }
    let text = text.trim();
    let text = text.strip_prefix('!').unwrap_or(text).trim_start();
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    match name.to_lowercase().as_str() {
        "help" => Ok(Wish::Help),
        "status" => Ok(Wish::Status),
        "ack" | "acknowledge" => acknowledge(rest),
        "silence" => silence(rest),
        other => Err(unknown(other)),
    }
}

fn acknowledge(rest: &str) -> Result<Wish, String> {
    let rest = match rest.split_once(char::is_whitespace) {
        Some((word, number)) if word.eq_ignore_ascii_case("incident") => number.trim_start(),
        _ => rest,
    };
    let (number, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if number.is_empty() {
        return Err(format!("which incident? {ACK_USAGE}"));
    }
    let digits = number.trim_start_matches('#').trim_end_matches([':', ',']);
    let incident = digits.parse::<i64>().ok().filter(|id| *id > 0);
    let incident = incident.ok_or_else(|| format!("`{}` is no incident: {ACK_USAGE}", shown(number)))?;
    let (span, note) = span_and_note(rest.trim())?;
    let note = (!note.is_empty()).then(|| one_line(note, MAX_NOTE_CHARS).into_owned());
    Ok(Wish::Acknowledge { incident: IncidentId(incident), span, note })
}

/// `for 2h looking at it`. What follows `for` and begins with no digit belongs to the note: `for now I only look`.
fn span_and_note(rest: &str) -> Result<(Option<TimeDelta>, &str), String> {
    let Some(("for", timed)) = rest.split_once(char::is_whitespace) else { return Ok((None, rest)) };
    let timed = timed.trim_start();
    if !timed.starts_with(|first: char| first.is_ascii_digit()) {
        return Ok((None, rest));
    }
    let (time, note) = timed.split_once(char::is_whitespace).unwrap_or((timed, ""));
    Ok((Some(span(time)?), note.trim_start()))
}

fn silence(rest: &str) -> Result<Wish, String> {
    let Some((monitor, time)) = rest.rsplit_once(char::is_whitespace) else {
        return Err(format!("which monitor, and for how long? {SILENCE_USAGE}"));
    };
    let monitor = unquoted(monitor.trim());
    if monitor.is_empty() {
        return Err(format!("which monitor? {SILENCE_USAGE}"));
    }
    let monitor = monitor.to_owned();
    if time.eq_ignore_ascii_case("off") {
        return Ok(Wish::EndSilences { monitor });
    }
    Ok(Wish::Silence { monitor, span: span(time)? })
}

/// The name without its quotes, or without a `for` before the time.
fn unquoted(monitor: &str) -> &str {
    const QUOTES: [(char, char); 5] =
        [('"', '"'), ('\'', '\''), ('`', '`'), ('\u{201c}', '\u{201d}'), ('\u{201e}', '\u{201c}')];
    let without_for = monitor.strip_suffix("for").filter(|rest| rest.ends_with(char::is_whitespace)).map(str::trim_end);
    let monitor = without_for.unwrap_or(monitor);
    QUOTES
        .iter()
        .find_map(|(opens, closes)| monitor.strip_prefix(*opens)?.strip_suffix(*closes))
        .map_or(monitor, str::trim)
}

/// `1h30m` as a span.
fn span(text: &str) -> Result<TimeDelta, String> {
    let wrong = || format!("`{}` is no time: {TIME_USAGE}", shown(text));
    let mut rest = text;
    let mut sum = TimeDelta::zero();
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u32 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit_and_rest = &rest[digits..];
        let end = unit_and_rest.find(|character: char| character.is_ascii_digit()).unwrap_or(unit_and_rest.len());
        let unit = match unit_and_rest[..end].to_lowercase().as_str() {
            "m" | "min" => TimeDelta::minutes(1),
            "h" => TimeDelta::hours(1),
            "d" => TimeDelta::days(1),
            "w" => TimeDelta::weeks(1),
            _ => return Err(wrong()),
        };
        let part = i32::try_from(number).ok().and_then(|number| unit.checked_mul(number)).ok_or_else(wrong)?;
        sum = sum.checked_add(&part).ok_or_else(wrong)?;
        rest = &unit_and_rest[end..];
    }
    if (SHORTEST..=LONGEST).contains(&sum) { Ok(sum) } else { Err(wrong()) }
}

fn unknown(name: &str) -> String {
    let likeness = |known: &str| strsim::jaro_winkler(name, known);
    let nearest = NAMES.into_iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    match nearest.filter(|known| likeness(known) >= LEAST_LIKENESS) {
        Some(known) => {
            format!("there is no command `!{}`; did you mean `!{known}`? `!help` shows all", shown(name))
        }
        None => format!("there is no command `!{}`; `!help` shows all", shown(name)),
    }
}

fn shown(text: &str) -> String {
    one_line(text, MAX_SHOWN_CHARS).replace('`', "'")
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::parse;
    use crate::domain::IncidentId;
    use crate::domain::commands::Wish;

    fn acknowledge(incident: i64, minutes: Option<i64>, note: Option<&str>) -> Wish {
        let (span, note) = (minutes.map(TimeDelta::minutes), note.map(str::to_owned));
        Wish::Acknowledge { incident: IncidentId(incident), span, note }
    }

    fn silence(monitor: &str, minutes: i64) -> Wish {
        Wish::Silence { monitor: monitor.to_owned(), span: TimeDelta::minutes(minutes) }
    }

    #[test]
    fn what_people_write_is_read() {
        for (text, wish) in [
            ("!help", Wish::Help),
            (" !HELP me ", Wish::Help),
            ("!status", Wish::Status),
            ("! status", Wish::Status),
            ("!ack 17", acknowledge(17, None, None)),
            ("!ack #17", acknowledge(17, None, None)),
            ("!Ack incident 17", acknowledge(17, None, None)),
            ("!acknowledge 17: on it", acknowledge(17, None, Some("on it"))),
            ("!ack 17 for 2h looking at it", acknowledge(17, Some(120), Some("looking at it"))),
            ("!ack 17 for 90m", acknowledge(17, Some(90), None)),
            ("!ack 17 for now I only look", acknowledge(17, None, Some("for now I only look"))),
            ("!ack 17   two   words", acknowledge(17, None, Some("two   words"))),
            ("!silence 12 30m", silence("12", 30)),
            ("!silence Orders arrive 2h", silence("Orders arrive", 120)),
            ("!silence Orders arrive for 2h", silence("Orders arrive", 120)),
            ("!silence \"Orders arrive\" 1d", silence("Orders arrive", 1_440)),
            ("!silence 'Waiting for' 1h30m", silence("Waiting for", 90)),
            ("!silence \u{201c}Orders\u{201d} 1w", silence("Orders", 10_080)),
            ("!silence it's \"odd\" 45min", silence("it's \"odd\"", 45)),
            ("!silence Orders off", Wish::EndSilences { monitor: "Orders".to_owned() }),
            ("!silence \"Orders\" OFF", Wish::EndSilences { monitor: "Orders".to_owned() }),
        ] {
            assert_eq!(parse(text), Ok(wish), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_answered_with_how_to_write_it() {
        for (text, expected) in [
            ("!", "`!help` shows all"),
            ("!stauts", "did you mean `!status`"),
            ("!silense x 2h", "did you mean `!silence`"),
            ("!frobnicate", "there is no command `!frobnicate`; `!help`"),
            ("!ack", "which incident?"),
            ("!ack orders", "`orders` is no incident"),
            ("!ack -3", "`-3` is no incident"),
            ("!ack 99999999999999999999", "is no incident"),
            ("!ack 17 for 2x looking", "`2x` is no time"),
            ("!silence", "which monitor"),
            ("!silence Orders", "which monitor"),
            ("!silence \"\" 2h", "which monitor"),
            ("!silence Orders soon", "`soon` is no time"),
            ("!silence Orders 30", "`30` is no time"),
            ("!silence Orders 0m", "`0m` is no time"),
            ("!silence Orders 31d", "from a minute to 30 days"),
            ("!silence Orders 4294967295w", "is no time"),
            ("!silence Orders 99999999999h", "is no time"),
            ("!silence Orders 2\u{4e16}", "is no time"),
        ] {
            let answer = parse(text).unwrap_err();
            assert!(answer.contains(expected), "{text}: {answer}");
            assert!(!answer.starts_with('!') && answer.lines().count() == 1, "{answer}");
        }
        assert!(parse(&format!("!ack 1 {}", "x".repeat(3_000))).unwrap_err().contains("too long"));
    }
}
