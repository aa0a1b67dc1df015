//! Performance data of a Nagios plugin: `'label'=value[unit];[warn];[crit];[min];[max]`, items split by spaces.
//!
//! It is read leniently: an item that makes no sense is left out, and never changes a verdict.

use watchbell_contract::Metrics;

/// Units as plugins write them, and as they stand in a metric's name. `c` marks a counter, which is no unit; an
/// unknown unit is dropped, and the number kept.
const UNITS: [(&str, &str); 17] = [
    ("s", "s"),
    ("ms", "ms"),
    ("us", "us"),
    ("ns", "ns"),
    ("%", "percent"),
    ("B", "bytes"),
    ("kB", "kb"),
    ("KB", "kb"),
    ("MB", "mb"),
    ("GB", "gb"),
    ("TB", "tb"),
    ("PB", "pb"),
    ("KiB", "kib"),
    ("MiB", "mib"),
    ("GiB", "gib"),
    ("TiB", "tib"),
    ("PiB", "pib"),
];

/// The numbers in `text` by label, with the unit behind it: `time_s`, `used_percent`. Of two alike the first counts.
pub(super) fn metrics(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (item, after) = next_item(rest);
        if let Some((name, value)) = item {
            metrics.entry(name).or_insert(value);
        }
        rest = after.trim_start();
    }
    metrics
}

/// One item, if it makes sense, and what follows it.
fn next_item(text: &str) -> (Option<(String, f64)>, &str) {
    let Some((label, after)) = label(text) else {
        return (None, skip_word(text));
    };
    let end = after.find(char::is_whitespace).unwrap_or(after.len());
    let (body, rest) = after.split_at(end);
    let measured = body.split(';').next().unwrap_or_default();
    let item = number(measured).map(|(value, unit)| (name(&label, unit), value));
    (item.filter(|(name, _)| !name.is_empty()), rest)
}

/// The label up to its `=`, with quotes undone, and what follows the `=`.
fn label(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('\'') else {
        let (label, after) = text.split_once('=')?;
        let is_label = !label.is_empty() && !label.contains(char::is_whitespace);
        return is_label.then(|| (label.to_owned(), after));
    };
    let mut label = String::new();
    let mut rest = quoted;
    loop {
        let (part, after) = rest.split_once('\'')?;
        label.push_str(part);
        match after.strip_prefix('\'') {
            Some(more) => {
                label.push('\'');
                rest = more;
            }
            None => return after.strip_prefix('=').map(|after| (label.trim().to_owned(), after)),
        }
    }
}

fn skip_word(text: &str) -> &str {
    text.find(char::is_whitespace).map_or("", |end| &text[end..])
}

/// A finite number and the unit behind it. `U`, which plugins write for "unknown", is none.
fn number(text: &str) -> Option<(f64, &str)> {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = usize::from(matches!(bytes.first(), Some(b'-' | b'+')));
    end += digits(end);
    if bytes.get(end) == Some(&b'.') {
        end += 1 + digits(end + 1);
    }
    // An exponent only where digits follow: `5EB` is a unit.
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'-' | b'+')));
        let exponent = bytes.get(end + 1 + sign..).map_or(0, |_| digits(end + 1 + sign));
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    let value: f64 = text[..end].parse().ok()?;
    let unit = &text[end..];
    // `1,5` and `1.2.3` are no numbers; half of one would be a false one.
    (value.is_finite() && !unit.starts_with([',', '.'])).then_some((value, unit))
}

fn name(label: &str, unit: &str) -> String {
    let known = UNITS.iter().find(|(written, _)| *written == unit).map(|(_, suffix)| *suffix);
    match known {
        Some(suffix) if !label.is_empty() && label != suffix && !label.ends_with(&format!("_{suffix}")) => {
            format!("{label}_{suffix}")
        }
        _ => label.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::metrics;

    #[test]
    fn perfdata_table() {
        for (text, expected) in [
            ("", ""),
            ("time=0.01s;;;0.000;10.000 size=512B", "size_bytes=512 time_s=0.01"),
            ("load1=0.930;100.000;200.000;0; load5=0.530;;", "load1=0.93 load5=0.53"),
            ("/=23147315200B;1;2;0;3", "/_bytes=23147315200"),
            ("'disk used'=40%;80:;@90:95", "disk used_percent=40"),
            ("'it''s'=1 'a=b'=2", "a=b=2 it's=1"),
            ("hits=12c", "hits=12"),
            ("rta=0.137000ms pl=0%", "pl_percent=0 rta_ms=0.137"),
            ("rta_ms=3ms percent=4%", "percent=4 rta_ms=3"),
            ("x=U y=1", "y=1"),
            ("offset=-1.5e-05s big=2E3 e=5EB", "big=2000 e=5 offset_s=-0.000015"),
            ("volts=3V", "volts=3"),
            ("a=.5 b=5. c=+1", "a=0.5 b=5 c=1"),
            ("mem=1GiB swap=2kB", "mem_gib=1 swap_kb=2"),
            ("nonsense a= =3 b=x c=- d=. e=1e999 f=1 'open", "f=1"),
            ("a=1 a=2", "a=1"),
            ("a = 1 b=2", "b=2"),
            ("temp=1,5;2 version=1.2.3", ""),
            ("größe=1µs ok=1", "größe=1 ok=1"),
        ] {
            let found: Vec<_> = metrics(text).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(found.join(" "), expected, "{text}");
        }
    }

    #[test]
    fn nothing_makes_it_panic() {
        for text in ["'", "''", "'''=", "=", "a=e", "a=1e", "a=1e+", "a=-e5", "a='=1", "\u{a0}=\u{a0}1", "é=é;é"] {
            metrics(text);
        }
    }
}
