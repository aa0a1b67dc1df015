//! The channel against a receiver that follows the documents strictly.
use crate::domain::OutboxRow;
pub(super) fn alert() -> OutboxRow {
    unreachable!()
}
pub(super) fn self_test() -> OutboxRow {
    unreachable!()
}
