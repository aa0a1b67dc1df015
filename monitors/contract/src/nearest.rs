//! What somebody most likely meant who wrote a name that is none.

/// The name that is most like `word`, for a hint (`did you mean ...?`); none where none is like it.
pub fn nearest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    /// Below this likeness (Jaro-Winkler, 0 to 1) a name misleads more than it helps.
    const LEAST_LIKENESS: f64 = 0.75;
    names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(word, name), name))
        .filter(|(likeness, _)| *likeness >= LEAST_LIKENESS)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_its_name_and_nonsense_finds_none() {
        let names = ["command", "http", "tcp", "tls"];
        assert_eq!(nearest("htpp", names), Some("http"));
        assert_eq!(nearest("comand", names), Some("command"));
        assert_eq!(nearest("zebra", names), None);
        assert_eq!(nearest("http", []), None);
    }
}
