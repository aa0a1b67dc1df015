//! The body that a user's template makes of the fields of [`crate::channels::payload`].
//!
//! A template is looked at when its channel is opened: its syntax, the names it uses, and whether what it makes of two
//! samples is JSON, where JSON is to be sent. The samples hold quotes and line ends, so that a forgotten `tojson` is
//! found when the row is written, and not by the first message with a quote in it, at night.
//! What is missing from a message (a self-test has no monitor) is an empty text, or `null` after `tojson`: it must not
//! keep a message from being sent.

use std::io;

use minijinja::{Environment, UndefinedBehavior};
use serde_json::{Value, json};
use watchbell_contract::nearest;

use crate::channels::payload::Payload;

/// How many steps of the template engine one message may take, so that a loop cannot hold up the node. There is
/// little to loop over: a monitor's labels, some ten steps each.
const FUEL: u64 = 10_000;
/// The longest template, in bytes: it stands in a column of a row.
const LONGEST_TEMPLATE: usize = 16 * 1024;
/// The longest body, in bytes. A longer one is refused and not cut: half an object is none.
const LONGEST_BODY: usize = 256 * 1024;

/// A template that works, as far as can be known before there is a message.
#[derive(Debug)]
pub(super) struct Template(String);

/// What is wrong with a template.
#[derive(Debug)]
pub(super) struct TemplateFault {
    pub(super) problem: String,
    pub(super) hint: String,
}

impl Template {
    /// Checks a template. `is_json`: what it makes must be JSON.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(super) fn read(source: String, is_json: bool) -> Result<Self, TemplateFault> {
        if source.len() > LONGEST_TEMPLATE {
            let hint = "let the receiver do more of the work, with `format=watchbell`".to_owned();
            return Err(TemplateFault { problem: format!("is longer than {LONGEST_TEMPLATE} bytes"), hint });
        }
        check_names(&source)?;
        let template = Self(source);
        for sample in samples() {
            template.check_with(&sample, is_json)?;
        }
        Ok(template)
    }

    /// The body for one message.
    ///
    /// # Errors
    /// What is wrong, to be read after "the template".
    pub(super) fn render(&self, message: &Payload<'_>) -> Result<String, String> {
        self.render_value(minijinja::Value::from(minijinja::value::Serde(message)))
            .map_err(|problem| format!("failed: {problem}"))
    }

    fn render_value(&self, variables: minijinja::Value) -> Result<String, String> {
        let environment = environment();
        let template = environment.template_from_str(&self.0).map_err(|error| said(&error))?;
        let mut body = Bounded { bytes: Vec::new(), is_full: false };
        let rendered = template.render_captured_to(variables, &mut body).map(drop);
        if body.is_full {
            return Err(format!("it makes more than {LONGEST_BODY} bytes"));
        }
        rendered.map_err(|error| said(&error))?;
        String::from_utf8(body.bytes).map_err(|error| error.to_string())
    }

    fn check_with(&self, sample: &Value, is_json: bool) -> Result<(), TemplateFault> {
        let body = self.render_value(minijinja::Value::from(minijinja::value::Serde(sample))).map_err(|problem| {
            TemplateFault {
                problem: format!(
                    "fails with a sample of the type `{}`: {problem}",
                    sample["type"].as_str().unwrap_or_default()
                ),
                hint: "guard what may be missing, for example `{% if monitor %}...{% endif %}`".to_owned(),
            }
        })?;
        if !is_json {
            return Ok(());
        }
        serde_json::from_str::<serde::de::IgnoredAny>(&body).map(drop).map_err(|error| TemplateFault {
            problem: format!(
                "makes no JSON of a sample of the type `{}` ({error})",
                sample["type"].as_str().unwrap_or_default()
            ),
            hint: "write `{{ subject|tojson }}`, without quotes around it; or name another `content_type`".to_owned(),
        })
    }
}

/// Syntax, and names that no message has.
fn check_names(source: &str) -> Result<(), TemplateFault> {
    let environment = environment();
    let template = environment.template_from_str(source).map_err(|error| TemplateFault {
        problem: format!("cannot be read: {}", said(&error)),
        hint: "in a URL, `%` is written `%25` and `&` is written `%26`".to_owned(),
    })?;
    let [full, _] = samples();
    let globals: Vec<_> = environment.globals().map(|(name, _)| name.to_owned()).collect();
    let mut unknown: Vec<_> = template.undeclared_variables(true).into_iter().collect();
    unknown.retain(|path| !globals.contains(path) && !is_known(&full, path));
    unknown.sort();
    let Some(path) = unknown.first() else { return Ok(()) };
    let names = names(&full);
    let hint = match nearest(path, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", names.join(", ")),
    };
    Err(TemplateFault { problem: format!("uses `{path}`, which no message has"), hint })
}

/// Whether a path such as `monitor.name` leads anywhere. Labels have any name.
fn is_known(sample: &Value, path: &str) -> bool {
    let mut value = sample;
    for name in path.split('.') {
        if value == &sample["monitor"]["labels"] {
            return true;
        }
        let Some(inner) = value.get(name) else { return false };
        value = inner;
    }
    true
}

fn names(sample: &Value) -> Vec<String> {
    let mut names = Vec::new();
    for (name, value) in sample.as_object().into_iter().flatten() {
        names.push(name.clone());
        names.extend(value.as_object().into_iter().flatten().map(|(inner, _)| format!("{name}.{inner}")));
    }
    names
}

/// One with everything, and one with as little as there may be. A test compares their fields with [`Payload`].
fn samples() -> [Value; 2] {
    let text = "it said \"no\" \\ <b>\n\tand went";
    let time = "2026-11-22T10:00:00.000Z";
    let uuid = "5f0f7a3e-3d0c-4c0e-9d55-0d7c9a6f1b11";
    let full = json!({
        "version": 1, "id": uuid, "type": "alert", "severity": "critical", "subject": "[Monitor ALERT] \"Orders\"",
        "body": text, "created_at": time, "thread": uuid,
        "incident": {"id": 7, "uuid": uuid, "opened_at": time, "recovered_at": time},
        "monitor": {"id": 3, "uuid": uuid, "name": "\"Orders\"", "kind": "sql", "labels": {"team": "\"shop\""},
                    "url": "https://watchbell.example.com/monitors/3"},
        "state_before": "ok", "state": "alert", "at": time, "message": text, "count": 3, "tells_alert": true,
        "acknowledged_by": text,
    });
    let little = json!({
        "version": 1, "id": uuid, "type": "self_test", "severity": "info", "subject": text, "body": text,
        "created_at": time, "thread": uuid, "incident": null, "monitor": null, "state_before": null, "state": null,
        "at": null, "message": "", "count": 0, "tells_alert": false,
        "acknowledged_by": null,
    });
    [full, little]
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_fuel(Some(FUEL));
    environment
}

/// The error in one line, with its place in the template.
fn said(error: &minijinja::Error) -> String {
    let what = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    match error.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}

/// Takes what fits, and then nothing more.
struct Bounded {
    bytes: Vec<u8>,
    is_full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() > LONGEST_BODY {
            self.is_full = true;
            return Err(io::Error::other("the body is too long"));
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{names, samples};
    use crate::channels::payload::Payload;
    use crate::channels::webhook::tests::{alert, self_test};

    #[test]
    fn samples_have_the_fields_of_messages() {
        let [full, little] = samples();
        assert_eq!(names(&full), names(&serde_json::to_value(Payload::of(&alert(), None)).unwrap()));
        assert_eq!(names(&little), names(&serde_json::to_value(Payload::of(&self_test(), None)).unwrap()));
    }
}
