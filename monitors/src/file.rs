//! The kind `file`.
use watchbell_contract::{Check, ConfigFaults, ConfigReader, Manifest, Monitor};
static MANIFEST: Manifest = Manifest {
    kind: "file",
    checks: "",
    parameters: &[],
    verdicts: "",
    examples: &[],
    limits: "",
    looks_at_this_machine: false,
};
/// The kind `file`.
pub struct File;
impl Monitor for File {
    fn manifest(&self) -> &Manifest {
        &MANIFEST
    }
    fn prepare(&self, _config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        Err(ConfigFaults(Vec::new()))
    }
}
