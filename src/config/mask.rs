//! Passwords out of URLs, before anybody sees them.

use std::ops::Range;

/// What stands for a masked value.
const MASK: &str = "***";

/// Of a wrong value, so many characters are repeated in its fault.
const LONGEST_SHOWN: usize = 60;

/// A URL with its password, and the values of query parameters that sound like one, as `***`. A secret reference
/// stays as it is: it names where the secret is, and is none. Where it is unclear whether a text is a password, it is
/// masked: a log that hides too much is a lesser evil.
pub fn mask_url(url: &str) -> String {
    let (text, references) = hide_references(url);
    let masked = mask_query(&mask_password(&text));
    restore_references(&masked, &references)
}

/// A value of a key that takes no secrets, for the text of a fault: short, and masked, because people paste URLs into
/// the wrong place.
pub(super) fn shown(text: &str) -> String {
    let masked = mask_url(text);
    match masked.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => format!("{}...", &masked[..end]),
        None => masked,
    }
}

/// Where secret references stand in a text; `$${` begins none.
pub(super) fn references(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find("${").map(|at| at + from) {
        from = at + 2;
        if text[..at].ends_with('$') {
            continue;
        }
        let is_known = ["env:", "file:", "credential:", "pass:"].iter().any(|scheme| text[from..].starts_with(scheme));
        if let Some(length) = text[from..].find('}').filter(|_| is_known) {
            found.push(at..from + length + 1);
            from += length + 1;
        }
    }
    found
}

/// Each reference replaced by one character of Unicode's private use area, so that what is inside a reference
/// (`/`, `:`, `@`) is not taken for a part of the URL.
fn hide_references(text: &str) -> (String, Vec<&str>) {
    let mut hidden = String::new();
    let mut kept = Vec::new();
    let mut done = 0;
    for range in references(text) {
        hidden.push_str(&text[done..range.start]);
        hidden.push(placeholder(kept.len()));
        kept.push(&text[range.clone()]);
        done = range.end;
    }
    hidden.push_str(&text[done..]);
    (hidden, kept)
}

fn restore_references(masked: &str, references: &[&str]) -> String {
    references
        .iter()
        .enumerate()
        .fold(masked.to_owned(), |text, (index, reference)| text.replace(placeholder(index), reference))
}

/// The private use area has 6,400 characters; a text with more references shares the last one.
fn placeholder(index: usize) -> char {
    u32::try_from(index).ok().and_then(|index| char::from_u32(0xE000 + index.min(6_399))).unwrap_or('\u{F8FF}')
}

fn is_one_reference(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|c| ('\u{E000}'..='\u{F8FF}').contains(&c)) && characters.next().is_none()
}

fn mask_password(url: &str) -> String {
    let Some(start) = url.find("://").map(|at| at + 3) else { return url.to_owned() };
    let rest = &url[start..];
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some(colon) = rest[..authority].find(':') else { return url.to_owned() };
    let at = match rest[..authority].rfind('@') {
        Some(at) if colon < at => at,
        Some(_) => return url.to_owned(),
        // A password with a bare `/`, `?` or `#` ends the authority early; a port is no password.
        None => match rest.rfind('@') {
            Some(at) if rest[colon + 1..authority].parse::<u16>().is_err() => at,
            _ => return url.to_owned(),
        },
    };
    let password = &rest[colon + 1..at];
    if password.is_empty() || is_one_reference(password) {
        return url.to_owned();
    }
    format!("{}{}:{MASK}{}", &url[..start], &rest[..colon], &rest[at..])
}

fn mask_query(url: &str) -> String {
    let Some((before, query)) = url.split_once('?') else { return url.to_owned() };
    let pairs: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) if names_a_secret(name) && !value.is_empty() && !is_one_reference(value) => {
                format!("{name}={MASK}")
            }
            _ => pair.to_owned(),
        })
        .collect();
    format!("{before}?{}", pairs.join("&"))
}

fn names_a_secret(parameter: &str) -> bool {
    let parameter = parameter.to_lowercase();
    ["pass", "pwd", "secret", "token", "key"].iter().any(|word| parameter.contains(word))
}

#[cfg(test)]
mod tests {
    use super::mask_url;

    #[test]
    fn passwords_are_masked_and_the_rest_is_legible() {
        for (url, shown) in [
            ("postgres://u:hunter2@db:5432/shop", "postgres://u:***@db:5432/shop"),
            ("postgres://u:hun@ter2@db/shop", "postgres://u:***@db/shop"),
            ("smtp://u:hun/ter2@mx?tls=required", "smtp://u:***@mx?tls=required"),
            ("smtp://u:hun#ter2@mx", "smtp://u:***@mx"),
            ("smtp://u:hun?ter2@mx", "smtp://u:***@mx"),
            ("mysql://:hunter2@db/x", "mysql://:***@db/x"),
            ("https://h:8080/a?token=hunter2&b=1", "https://h:8080/a?token=***&b=1"),
            ("postgres:///shop?user=u&password=hunter2", "postgres:///shop?user=u&password=***"),
            ("https://h:8448/@me", "https://h:8448/@me"),
            ("sqlite://watchbell.db", "sqlite://watchbell.db"),
            ("smtp://u@mx:25", "smtp://u@mx:25"),
            ("http://[::1]:80/", "http://[::1]:80/"),
            ("plain text", "plain text"),
        ] {
            assert_eq!(mask_url(url), shown);
        }
    }

    #[test]
    fn references_are_shown_and_what_stands_beside_them_is_not() {
        for (url, shown) in [
            ("smtp://u:${pass:mail/ops@example}@mx", "smtp://u:${pass:mail/ops@example}@mx"),
            ("smtp://${env:U}:${file:/run/p}@mx", "smtp://${env:U}:${file:/run/p}@mx"),
            ("smtp://u:hunter2${env:P}@mx", "smtp://u:***@mx"),
            ("smtp://u:${hunter2}@mx", "smtp://u:***@mx"),
            ("smtp://u:$${env:P}@mx", "smtp://u:***@mx"),
            ("${env:SMTP_URL}", "${env:SMTP_URL}"),
        ] {
            assert_eq!(mask_url(url), shown);
        }
    }
}
