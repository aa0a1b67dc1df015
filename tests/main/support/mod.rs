//! What black-box tests need around the product.

pub(crate) mod homeserver;
pub(crate) mod node;
pub(crate) mod smtp;
