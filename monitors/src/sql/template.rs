//! The message that a row's author writes: a template over what was found.

use std::io;

use minijinja::{Environment, UndefinedBehavior};

/// What a template may use.
pub(super) const VARIABLES: [&str; 7] = ["value", "rows", "row_count", "tick", "since", "is_ok", "verdict"];

/// How many steps of the template engine one message may take, so that a loop cannot hold up the node. A row of a
/// table costs some ten.
const FUEL: u64 = 100_000;
/// The longest template, and the longest message, in bytes: more is not read in a mail at night.
const LONGEST_TEMPLATE: usize = 8 * 1024;
const LONGEST_MESSAGE: usize = 8 * 1024;

/// A template whose syntax was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(String);

impl Template {
    /// Checks the syntax and the names of the variables.
    ///
    /// # Errors
    /// What is wrong, in one sentence.
    pub(super) fn read(source: String) -> Result<Self, String> {
        if source.len() > LONGEST_TEMPLATE {
            return Err(format!("is longer than {LONGEST_TEMPLATE} bytes"));
        }
        let environment = environment();
        let template = environment.template_from_str(&source).map_err(|error| said(&error))?;
        let globals: Vec<_> = environment.globals().map(|(name, _)| name.to_owned()).collect();
        let mut unknown: Vec<_> = template.undeclared_variables(false).into_iter().collect();
        unknown.retain(|name| !VARIABLES.contains(&name.as_str()) && !globals.contains(name));
        unknown.sort();
        match unknown.first() {
            None => Ok(Self(source)),
            Some(name) => Err(format!("uses `{name}`, which is not known; there are {}", VARIABLES.join(", "))),
        }
    }

    /// The message, cut to its longest length.
    ///
    /// # Errors
    /// What is wrong, in one sentence.
    pub(super) fn render(&self, variables: &serde_json::Value) -> Result<String, String> {
        let environment = environment();
        let template = environment.template_from_str(&self.0).map_err(|error| said(&error))?;
        let mut message = Bounded { bytes: Vec::new(), is_cut: false };
        let variables = minijinja::Value::from(minijinja::value::Serde(variables));
        template.render_captured_to(variables, &mut message).map_err(|error| said(&error))?;
        let mut text = String::from_utf8_lossy(&message.bytes).trim_end().to_owned();
        if message.is_cut {
            text.push_str("...");
        }
        if text.trim().is_empty() { Err("gave an empty message".into()) } else { Ok(text) }
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // A name that is written wrong must not become an empty place in an alert.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
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

/// Keeps what fits and drops the rest.
struct Bounded {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        let room = LONGEST_MESSAGE - self.bytes.len();
        self.is_cut |= more.len() > room;
        self.bytes.extend_from_slice(&more[..more.len().min(room)]);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{LONGEST_MESSAGE, Template};

    #[test]
    fn columns_of_the_result_can_be_listed() {
        let template = "{{ value }} bad, top: {% for row in rows %}{{ row.rule }} ({{ row.n }}){% if not loop.last %}, {% endif %}{% endfor %}";
        let variables = json!({"value": 7, "rows": [{"rule": "a", "n": 4}, {"rule": "b", "n": 3}]});
        let text = Template::read(template.into()).unwrap().render(&variables).unwrap();
        assert_eq!(text, "7 bad, top: a (4), b (3)");
    }

    #[test]
    fn what_is_wrong_is_told_early() {
        assert!(Template::read("{{ value ".into()).unwrap_err().contains("line 1"));
        assert!(Template::read("{{ valu }}".into()).unwrap_err().contains("`valu`"));
        let late = Template::read("{{ rows[0].nothing }}".into()).unwrap();
        assert!(late.render(&json!({"rows": [{"a": 1}]})).unwrap_err().contains("undefined"));
    }

    #[test]
    fn loops_and_lengths_are_bounded() {
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(Template::read(endless.into()).unwrap().render(&json!({})).is_err());
        let long = Template::read("{{ value * 20000 }}".into()).unwrap();
        assert_eq!(long.render(&json!({"value": "x"})).unwrap().len(), LONGEST_MESSAGE + 3);
    }
}
