//! What black-box tests need around the product.

pub(crate) mod smtp;
