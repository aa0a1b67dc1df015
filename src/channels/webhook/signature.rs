//! How a receiver knows that a request is ours, and that it is not an old one that somebody sends again.
//!
//! With `hmac_key` each request carries two headers:
//! ```text
//! X-Watchbell-Timestamp: 1795341600
//! X-Watchbell-Signature: v1=<64 hex digits, lower case>
//! ```
//! The digits are HMAC-SHA256, with the key's UTF-8 bytes, over the timestamp as it stands in the header, a dot, and the
//! body's bytes as they came. Each attempt is signed anew.
//!
//! A receiver
//! 1. takes the body's raw bytes, before any parser touches them,
//! 2. refuses a timestamp that is more than 300 seconds away from its own clock,
//! 3. computes the digits and compares them in constant time (`hmac.compare_digest`, `crypto.timingSafeEqual`),
//! 4. drops, with a `2xx`, an `Idempotency-Key` that it has already taken.
//!
//! By hand, where `body` is a file with the body:
//! ```text
//! { printf '%s.' "$timestamp"; cat body; } | openssl dgst -sha256 -hmac "$key"
//! ```

use ring::hmac;

/// Seconds since 1970, UTC, when the attempt was signed.
pub(super) const TIMESTAMP_HEADER: &str = "X-Watchbell-Timestamp";
/// The signature, with the version of this recipe before it.
pub(super) const SIGNATURE_HEADER: &str = "X-Watchbell-Signature";

/// The value of [`SIGNATURE_HEADER`].
pub(super) fn sign(key: &str, timestamp: i64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()));
    context.update(format!("{timestamp}.").as_bytes());
    context.update(body);
    format!("v1={}", hex(context.sign().as_ref()))
}

/// Two digits a byte, lower case.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::sign;

    /// The digits are what `openssl dgst`, called as the module's documentation says, printed.
    #[test]
    fn it_is_what_openssl_makes() {
        let body = b"{\"a\":\"\\u00e9 \\\"q\\\"\"}\n";
        let signature = sign("k3y/with \"quotes\" & more", 1_795_341_600, body);
        assert_eq!(signature, "v1=245e5cd2dbd94b8a4a13cc843fc4073b33faa3268df69b855c8729862ef04934");
    }
}
