//! The contract of delivery as examples, and as a property against a model of its own.

mod cut_off;
mod gates;
mod merging;
mod model;
mod noise;
mod outbox;
mod recovery;
