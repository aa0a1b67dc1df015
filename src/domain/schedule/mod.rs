//! Placeholder until merged.
/// x
#[derive(Debug, Clone)]
pub struct Schedule;
