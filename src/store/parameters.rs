//! What stands behind the question mark of a server's URL.

use url::Url;

use crate::ports::StoreError;

/// Refuses what would be passed over: a misspelt `sslmode` would trust whoever answers.
///
/// # Errors
/// [`StoreError::Unusable`], with the names that are `known`.
pub(super) fn refuse_unknown(url: &Url, known: &[&str]) -> Result<(), StoreError> {
    match url.query_pairs().find(|(name, _)| !known.contains(&&**name)) {
        None => Ok(()),
        Some((name, _)) => Err(unusable(format!(
            "`{name}` is no parameter that may stand in its URL; these are: {}",
            known.join(", ")
        ))),
    }
}

/// Why a URL cannot be used, as the driver says it.
pub(super) fn refused(error: &sqlx::Error, tls_modes: &str) -> StoreError {
    // The driver says this once for each layer.
    let text = error.to_string().replace("error with configuration: ", "");
    let hint = if text.contains("ssl_mode") { format!("; it is one of {tls_modes}") } else { String::new() };
    unusable(format!("its URL cannot be used: {text}{hint}"))
}

fn unusable(reason: String) -> StoreError {
    StoreError::Unusable { action: "open the database".to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::refuse_unknown;

    #[test]
    fn what_would_be_passed_over_is_refused() {
        let look = |url: &str| refuse_unknown(&Url::parse(url).unwrap(), &["sslmode", "host"]);
        assert!(look("postgres://u@h/d").is_ok());
        assert!(look("postgres://u@h/d?host=/run&sslmode=verify-full").is_ok());
        let said = look("postgres://u@h/d?host=/run&sslmod=verify-full").unwrap_err().to_string();
        assert!(said.contains("`sslmod` is no parameter") && said.ends_with("these are: sslmode, host"), "{said}");
    }
}
