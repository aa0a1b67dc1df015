//! `watchbell demo`.

use watchbell_contract::Monitor;

use crate::config::Configuration;

pub(crate) async fn demo(_configuration: Configuration, _extra_kinds: Vec<Box<dyn Monitor>>) -> anyhow::Result<()> {
    anyhow::bail!("`demo` is not built into this binary")
}
