//! What black-box tests need around the product.

pub mod smtp;
