//! The kind `host`.
use watchbell_contract::{Check, ConfigFaults, ConfigReader, Manifest, Monitor};
static MANIFEST: Manifest = Manifest {
    kind: "host",
    checks: "",
    parameters: &[],
    verdicts: "",
    examples: &[],
    limits: "",
    looks_at_this_machine: false,
};
/// The kind `host`.
pub struct Host;
impl Monitor for Host {
    fn manifest(&self) -> &Manifest {
        &MANIFEST
    }
    fn prepare(&self, _config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        Err(ConfigFaults(Vec::new()))
    }
}
