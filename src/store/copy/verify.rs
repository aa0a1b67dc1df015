//! Both sides read once more and compared, row by row.

use ring::digest::{Context, SHA256};
use serde_json::Value;

use super::error::CopyError;
use super::pages::{Values, fit, key_of, read, shown};
use super::tables::Table;
use crate::store::database::{Bind, Database};

/// Numbers that are not whole are compared to so many digits: databases keep JSON's numbers in forms of their own.
const DIGITS: usize = 12;

/// What was compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// How many rows are the same on both sides.
    pub rows: u64,
    /// A checksum of the contents, the same on every database.
    pub checksum: String,
    /// In how many values NUL became U+FFFD, since the target cannot hold it.
    pub replaced: u64,
}

/// Compares a table; `seen` is told after each page how many rows were.
///
/// # Errors
/// [`CopyError::Differs`] with the first row that is not the same.
pub(super) async fn verify(
    source: &Database,
    target: &Database,
    table: &Table,
    seen: &(dyn Fn(u64) + Sync),
) -> Result<Checked, CopyError> {
    let mut sum = Context::new(&SHA256);
    let (mut rows, mut replaced, mut after) = (0_u64, 0, None);
    loop {
        let (theirs, ours) = tokio::join!(read(source, table, after.as_deref()), read(target, table, after.as_deref()));
        let (mut theirs, ours) = (theirs?, ours?);
        replaced += fit(&mut theirs, target.dialect());
        compare(table, &theirs, &ours, &mut sum)?;
        rows += ours.len() as u64;
        seen(rows);
        match ours.last() {
            Some(last) if ours.len() == table.page as usize => after = Some(key_of(table, last)),
            _ => break,
        }
    }
    let checksum = sum.finish().as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(Checked { rows, checksum, replaced })
}

fn compare(table: &Table, theirs: &[Values], ours: &[Values], sum: &mut Context) -> Result<(), CopyError> {
    let differs = |row: &Values, difference: String| CopyError::Differs {
        table: table.name,
        row: shown(table, &key_of(table, row)),
        difference,
    };
    for (their, our) in theirs.iter().zip(ours) {
        if key_of(table, their) != key_of(table, our) {
            return Err(differs(their, format!("the target has the row {}", shown(table, &key_of(table, our)))));
        }
        for (index, (column, _)) in table.columns.iter().enumerate() {
            let is_json = table.json.contains(column);
            let (expected, found) = (canonical(&their[index], is_json), canonical(&our[index], is_json));
            if expected != found {
                return Err(differs(their, format!("`{column}` is another")));
            }
            sum.update(&(found.len() as u64).to_le_bytes());
            sum.update(found.as_bytes());
        }
    }
    match (theirs.get(ours.len()), ours.get(theirs.len())) {
        (Some(missing), _) => Err(differs(missing, "it is missing in the target".to_owned())),
        (_, Some(extra)) => Err(differs(extra, "it is in the target only".to_owned())),
        (None, None) => Ok(()),
    }
}

/// A value in the one spelling that all databases share; NULL is no text.
fn canonical(value: &Bind, is_json: bool) -> String {
    match value {
        Bind::Int(Some(number)) => format!("i{number}"),
        Bind::Time(Some(at)) => format!("t{}", at.timestamp_millis()),
        Bind::Text(Some(text)) if is_json => match serde_json::from_str::<Value>(text) {
            Ok(value) => {
                let mut text = "j".to_owned();
                write_json(&mut text, &value);
                text
            }
            Err(_) => format!("s{text}"),
        },
        Bind::Text(Some(text)) => format!("s{text}"),
        _ => String::new(),
    }
}

fn write_json(text: &mut String, value: &Value) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            text.push('{');
            for (name, value) in fields {
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write_json(text, value);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                write_json(text, item);
                text.push(',');
            }
            text.push(']');
        }
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or_default();
            // Exactly whole: `1.0` is `1` on some. Beyond 2^53 every number is.
            let is_whole = number.fract() == 0.0 && number.abs() < 9e15;
            let spelled = if is_whole { format!("{number:.0}") } else { format!("{number:.DIGITS$e}") };
            text.push_str(if spelled == "-0" { "0" } else { &spelled });
        }
        other => text.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::canonical;
    use crate::store::database::Bind;

    #[test]
    fn json_is_compared_by_what_it_means() {
        let spelled = |text: &str| canonical(&Bind::Text(Some(text.to_owned())), true);
        assert_eq!(spelled(r#"{"b": 1.0, "a": [1, 2.50]}"#), spelled(r#"{"a":[1,2.5],"b":1}"#));
        assert_eq!(spelled("0.1"), spelled("1e-1"));
        for (one, other) in [("1", "\"1\""), ("[1,2]", "[2,1]"), ("null", "0"), ("[[1],2]", "[[1,2]]"), ("1.5", "1.6")]
        {
            assert_ne!(spelled(one), spelled(other));
        }
    }

    #[test]
    fn null_and_nothing_are_told_apart() {
        assert_ne!(canonical(&Bind::Text(None), false), canonical(&Bind::Text(Some(String::new())), false));
    }
}
