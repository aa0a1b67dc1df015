//! From what a program left to an outcome. Pure.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use serde_json::{Map, Value};
use watchbell_contract::{Metrics, Outcome, Severity};

use super::pipes::{KEPT_OUTPUT, MOST_OUTPUT};
use super::process::{End, Finished};
use super::{perfdata, text};

/// What Nagios says when a plugin says nothing.
const NO_OUTPUT: &str = "(No output returned from plugin)";

/// How to read standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// As JSON when it is an object with `is_ok`, else as a plugin's.
    Auto,
    /// As a plugin's, whatever it looks like.
    Nagios,
    /// As one JSON object.
    Json,
}

/// The outcome of the program that the row calls `program`.
pub(super) fn read(program: &str, format: Format, finished: &Finished) -> Outcome {
    let printed = text::safe(&finished.stdout);
    let printed = printed.trim();
    match &finished.end {
        End::NotStarted(error) => Outcome::failed(not_started(program, error)),
        End::TimedOut { after, allowed } => {
            let told = format!(
                "timed out after {:.1} s: `{program}` had not ended, and was stopped, since its check may take {:.1} s \
                 (hint: raise `timeout_seconds`, or give the program a shorter time-out of its own)",
                after.as_secs_f64(),
                allowed.as_secs_f64()
            );
            Outcome::failed(with_output(&told, printed, finished))
        }
        End::TooMuchOutput => {
            let told = format!("`{program}` printed more than {} MiB, and was stopped", MOST_OUTPUT / 1024 / 1024);
            Outcome::failed(with_output(&told, "", finished))
        }
        End::Status(status) => match (format, json(printed)) {
            (Format::Nagios, _) | (Format::Auto, Json::Other) => nagios(program, *status, printed, finished),
            (_, Json::Object(object)) => from_json(program, *status, &object, finished),
            (_, Json::Broken(problem)) => {
                let told = format!("`{program}` printed JSON that cannot be read: {problem}");
                Outcome::failed(with_output(&told, printed, finished))
            }
            (Format::Json, Json::Other) => {
                let told = format!(
                    "`{program}` {}, and did not print one JSON object with `is_ok`, as `\"output\": \"json\"` asks",
                    ending(*status)
                );
                Outcome::failed(with_output(&told, printed, finished))
            }
        },
    }
}

fn nagios(program: &str, status: ExitStatus, printed: &str, finished: &Finished) -> Outcome {
    let (mut message, numbers) = split(printed, finished.was_cut);
    if message.is_empty() {
        message = NO_OUTPUT.to_owned();
    }
    if finished.was_cut {
        message.push_str(&cut_note());
    }
    let code = status.code();
    if !matches!(code, Some(0..=3)) {
        message = format!("{message}\n`{program}` {}{}", ending(status), code.map_or("", code_hint));
    }
    // Standard error tells what went wrong where the plugin itself could not.
    if code != Some(0) && (printed.is_empty() || !matches!(code, Some(1 | 2))) {
        message.push_str(&errors(finished));
    }
    let outcome = match code {
        Some(0) => Outcome::ok(message),
        Some(1) => Outcome::failed(message).with_severity(Severity::Warning),
        Some(2) => Outcome::failed(message).with_severity(Severity::Critical),
        _ => Outcome::failed(message),
    };
    Outcome { metrics: perfdata::metrics(&numbers), ..outcome }
}

/// Text and performance data of a plugin: `TEXT | data`, then lines of text up to the next `|`, then data to the end.
fn split(printed: &str, was_cut: bool) -> (String, String) {
    let (first, rest) = printed.split_once('\n').unwrap_or((printed, ""));
    let (text, data) = first.split_once('|').unwrap_or((first, ""));
    // Long text may hold a `|` of its own, a table or a usage text: no word of it may be lost.
    let more = rest.split_once('|').filter(|(_, data)| !perfdata::metrics(data).is_empty());
    let (long_text, more_data) = more.unwrap_or((rest, ""));
    let (data, more_data) = match (was_cut, rest.is_empty()) {
        (true, true) => (without_last_word(data), ""),
        (true, false) => (data, without_last_word(more_data)),
        (false, _) => (data, more_data),
    };
    let message = format!("{}\n{}", text.trim_end(), long_text.trim_end());
    (message.trim().to_owned(), format!("{data} {more_data}"))
}

/// What stands before the last word: where output was cut, the last number may be half of one.
fn without_last_word(data: &str) -> &str {
    data.rfind(char::is_whitespace).map_or("", |end| &data[..end])
}

enum Json {
    Object(Map<String, Value>),
    /// It is meant to be such an object, and is none.
    Broken(String),
    Other,
}

fn json(printed: &str) -> Json {
    if !printed.starts_with('{') {
        return Json::Other;
    }
    match serde_json::from_str(printed) {
        Ok(Value::Object(object)) if object.contains_key("is_ok") => Json::Object(object),
        // Never taken for a plugin's text: with exit code 0 a failure that is reported so would count as an ok.
        Err(error) if printed.contains("\"is_ok\"") => Json::Broken(error.to_string()),
        _ => Json::Other,
    }
}

fn from_json(program: &str, status: ExitStatus, object: &Map<String, Value>, finished: &Finished) -> Outcome {
    let refuse = |problem: String| Outcome::failed(with_output(&format!("`{program}` {problem}"), "", finished));
    let Some(is_ok) = object.get("is_ok").and_then(Value::as_bool) else {
        return refuse(format!("printed `is_ok` as {}; it is true or false", object["is_ok"]));
    };
    let message = match object.get("message") {
        None | Some(Value::Null) => "",
        Some(Value::String(message)) => message.trim(),
        Some(other) => return refuse(format!("printed `message` as {other}; it is a text")),
    };
    let message = if message.is_empty() {
        format!("`{program}` says that {}, without a message", if is_ok { "all is well" } else { "something is wrong" })
    } else {
        text::safe(message.as_bytes())
    };
    let mut outcome = if is_ok { Outcome::ok(message) } else { Outcome::failed(message) };
    match object.get("severity") {
        None | Some(Value::Null) => {}
        Some(severity) => match severity.as_str().unwrap_or_default().parse() {
            Ok(severity) => outcome.severity = Some(severity),
            Err(_) if is_ok => {}
            Err(_) => outcome.message.push_str(&format!(
                "\n(`{program}` gave the severity {severity}; it is `critical`, `warning` or `info`)"
            )),
        },
    }
    outcome.metrics = json_metrics(object.get("metrics"));
    if is_ok && !status.success() {
        let told = format!(
            "`{program}` {}, but says that all is well; a program that is content ends with 0: ",
            ending(status)
        );
        outcome.is_ok = false;
        outcome.severity = None;
        outcome.message = told + &outcome.message + &errors(finished);
    } else if status.code().is_none() {
        outcome.message.push_str(&format!("\n`{program}` {}", ending(status)));
    }
    outcome
}

/// What is no number is left out: like performance data, it never changes a verdict.
fn json_metrics(metrics: Option<&Value>) -> Metrics {
    let entries = metrics.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(name, value)| Some((text::safe(name.as_bytes()), value.as_f64()?))).collect()
}

fn not_started(program: &str, error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    let hint = match error.kind() {
        ErrorKind::PermissionDenied => {
            " (hint: Watchbell's user must be allowed to execute it and to enter its directory)"
        }
        ErrorKind::NotFound => " (hint: the interpreter that its first line names is missing)",
        ErrorKind::ArgumentListTooLong => " (hint: its `args` and `env` are too long; hand long text over by `stdin`)",
        // ENOEXEC has no kind of its own.
        _ if error.raw_os_error() == Some(nix::libc::ENOEXEC) => {
            " (hint: it is no program for this machine; a script begins with a line such as `#!/bin/sh`)"
        }
        _ => "",
    };
    format!("`{program}` cannot be started: {error}{hint}")
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("was ended by signal {number} ({signal})"),
            Err(_) => format!("was ended by signal {number}"),
        },
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

fn code_hint(code: i32) -> &'static str {
    match code {
        126 => " (hint: something that it runs is not executable)",
        127 => " (hint: something that it runs was not found)",
        _ => ", which is none of a plugin's (0 to 3)",
    }
}

fn cut_note() -> String {
    format!("\n(the output was cut at {} KiB)", KEPT_OUTPUT / 1024)
}

/// A sentence of ours, then what the program itself had to say.
fn with_output(told: &str, printed: &str, finished: &Finished) -> String {
    let mut message = told.to_owned();
    if !printed.is_empty() {
        message.push_str("\nit printed: ");
        message.push_str(printed);
        if finished.was_cut {
            message.push_str(&cut_note());
        }
    }
    message + &errors(finished)
}

fn errors(finished: &Finished) -> String {
    let errors = text::safe(&finished.stderr);
    match errors.trim() {
        "" => String::new(),
        errors => format!("\non standard error: {errors}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use watchbell_contract::{Outcome, Severity};

    use super::{Format, read};
    use crate::command::process::{End, Finished};

    fn ended(raw: i32, stdout: &str, stderr: &str) -> Finished {
        Finished {
            end: End::Status(ExitStatus::from_raw(raw)),
            stdout: stdout.into(),
            was_cut: false,
            stderr: stderr.into(),
        }
    }

    fn exit(code: i32, stdout: &str) -> Outcome {
        read("check_x", Format::Auto, &ended(code << 8, stdout, "trouble"))
    }

    #[test]
    fn exit_codes() {
        for (code, is_ok, severity) in [
            (0, true, None),
            (1, false, Some(Severity::Warning)),
            (2, false, Some(Severity::Critical)),
            (3, false, None),
            (4, false, None),
            (126, false, None),
            (127, false, None),
            (255, false, None),
        ] {
            let outcome = exit(code, "SAID so");
            assert_eq!((outcome.is_ok, outcome.severity), (is_ok, severity), "{code}");
            assert!(outcome.message.starts_with("SAID so"), "{code}: {}", outcome.message);
            assert_eq!(outcome.message == "SAID so", code < 3, "{code}: {}", outcome.message);
            assert_eq!(outcome.message.contains(&format!("exit code {code}")), code > 3, "{}", outcome.message);
        }
        let killed = read("check_x", Format::Auto, &ended(11, "", ""));
        assert_eq!((killed.is_ok, killed.severity), (false, None));
        assert!(killed.message.contains("`check_x` was ended by signal 11 (SIGSEGV)"), "{}", killed.message);
    }

    #[test]
    fn text_and_data_are_told_apart() {
        let outcome = exit(0, "DISK OK | /=1MB;2;3\nlong one\nlong two | /boot=2MB\n'/var log'=3MB\n");
        assert_eq!(outcome.message, "DISK OK\nlong one\nlong two");
        let names: Vec<_> = outcome.metrics.keys().cloned().collect();
        assert_eq!(names, ["/_mb", "/boot_mb", "/var log_mb"]);
        assert_eq!(
            exit(3, "usage:\n -a|--all: print all\n -b").message,
            "usage:\n -a|--all: print all\n -b\non standard error: trouble"
        );
        assert_eq!(exit(2, "x | nonsense ;;; = '").severity, Some(Severity::Critical));
        assert_eq!(exit(0, "x | a=b").metrics.len(), 0);
    }

    #[test]
    fn silence_is_told_with_standard_error() {
        assert_eq!(exit(0, " \n").message, "(No output returned from plugin)");
        assert_eq!(exit(2, "").message, "(No output returned from plugin)\non standard error: trouble");
        assert_eq!(exit(0, "| a=1").message, "(No output returned from plugin)");
    }

    #[test]
    fn a_cut_number_is_dropped() {
        let cut = |printed| read("check_x", Format::Auto, &Finished { was_cut: true, ..ended(0, printed, "") });
        let names = |outcome: &Outcome| outcome.metrics.keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(names(&cut("x | a=1 b=2\nlong")), "a b");
        assert_eq!(names(&cut("x | a=1\nlong | b=2\nc=34")), "a b");
        let outcome = cut("x | a=1 b=23");
        assert_eq!(names(&outcome), "a");
        assert!(outcome.message.contains("cut at 8 KiB"), "{}", outcome.message);
    }

    #[test]
    fn json_is_taken_as_it_stands() {
        let outcome = exit(0, r#" {"is_ok": true, "message": "fine", "metrics": {"a_ms": 1.5, "b": "x"}} "#);
        assert_eq!((outcome.is_ok, outcome.message.as_str(), outcome.metrics.len()), (true, "fine", 1));
        let outcome = exit(0, r#"{"is_ok": false, "message": "bad\u0000", "severity": "info"}"#);
        assert_eq!((outcome.is_ok, outcome.severity), (false, Some(Severity::Info)));
        assert_eq!(outcome.message, "bad\u{FFFD}");
        let outcome = exit(2, r#"{"is_ok": false}"#);
        assert_eq!((outcome.is_ok, outcome.severity), (false, None));
        assert!(outcome.message.contains("without a message"), "{}", outcome.message);
        let outcome = exit(0, r#"{"is_ok": false, "message": "m", "severity": "loud"}"#);
        assert!(!outcome.is_ok && outcome.message.contains(r#"severity "loud""#), "{}", outcome.message);
    }

    #[test]
    fn json_that_contradicts_or_cannot_be_read_fails() {
        for (code, printed, said) in [
            (1, r#"{"is_ok": true, "message": "fine"}"#, "ended with exit code 1, but says that all is well"),
            (0, r#"{"is_ok": "yes"}"#, r#"printed `is_ok` as "yes""#),
            (0, r#"{"is_ok": true, "message": 1}"#, "printed `message` as 1"),
            (0, r#"{"is_ok": false, "message": "cut o"#, "JSON that cannot be read"),
            (0, "{\"is_ok\": true}\n{\"is_ok\": false}", "JSON that cannot be read"),
        ] {
            let outcome = exit(code, printed);
            assert!(!outcome.is_ok && outcome.message.contains(said), "{printed}: {}", outcome.message);
        }
    }

    #[test]
    fn the_format_can_be_fixed() {
        let json = r#"{"is_ok": false}"#;
        assert!(read("x", Format::Nagios, &ended(0, json, "")).is_ok);
        let plain = read("x", Format::Json, &ended(0, "OK", ""));
        assert!(!plain.is_ok && plain.message.contains("did not print one JSON object"), "{}", plain.message);
        assert!(exit(0, "{ok} | a=1").is_ok);
    }
}
