//! Keys of messages that no run owes: the same words give the same key on every node and after every restart, so that
//! the database lets the message in once.

use uuid::Uuid;

/// The `uuid` of the notification that `words` name, in the installation of this `uuid`. Two installations have
/// different keys for the same words: services and mail programs drop what they take for a repetition.
pub(super) fn notice_key(installation: &str, words: &[&str]) -> String {
    let space = Uuid::new_v5(&Uuid::NAMESPACE_URL, installation.as_bytes());
    Uuid::new_v5(&space, words.join("|").as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::notice_key;

    #[test]
    fn a_key_is_of_its_words_and_its_installation() {
        let key = notice_key("one", &["self_test", "a@x.test"]);
        assert_eq!(key, notice_key("one", &["self_test", "a@x.test"]));
        assert_ne!(key, notice_key("two", &["self_test", "a@x.test"]));
        assert_ne!(key, notice_key("one", &["self_test", "b@x.test"]));
    }
}
