//! The kind `tls`.
use watchbell_contract::{Check, ConfigFaults, ConfigReader, Manifest, Monitor};
static MANIFEST: Manifest = Manifest {
    kind: "tls",
    checks: "",
    parameters: &[],
    verdicts: "",
    examples: &[],
    limits: "",
    looks_at_this_machine: false,
};
/// The kind `tls`.
pub struct Tls;
impl Monitor for Tls {
    fn manifest(&self) -> &Manifest {
        &MANIFEST
    }
    fn prepare(&self, _config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        Err(ConfigFaults(Vec::new()))
    }
}
