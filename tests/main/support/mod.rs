//! What black-box tests need around the product.

pub(crate) mod homeserver;
pub(crate) mod node;
pub(crate) mod outbox;
pub(crate) mod postfix;
pub(crate) mod redis;
pub(crate) mod smtp;
