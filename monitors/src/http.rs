//! The kind `http`.
use watchbell_contract::{Check, ConfigFaults, ConfigReader, Manifest, Monitor};
static MANIFEST: Manifest = Manifest {
    kind: "http",
    checks: "",
    parameters: &[],
    verdicts: "",
    examples: &[],
    limits: "",
    looks_at_this_machine: false,
};
/// The kind `http`.
pub struct Http;
impl Monitor for Http {
    fn manifest(&self) -> &Manifest {
        &MANIFEST
    }
    fn prepare(&self, _config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        Err(ConfigFaults(Vec::new()))
    }
}
