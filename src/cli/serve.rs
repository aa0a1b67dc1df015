//! `watchbell serve`.

use super::installation::Installation;

pub(crate) async fn serve(installation: Installation) -> anyhow::Result<()> {
    installation.store.close().await;
    anyhow::bail!("`serve` is not built into this binary")
}
