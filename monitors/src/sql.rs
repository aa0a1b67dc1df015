//! The kind `sql`.
use watchbell_contract::{Check, ConfigFaults, ConfigReader, Manifest, Monitor};
static MANIFEST: Manifest = Manifest {
    kind: "sql",
    checks: "",
    parameters: &[],
    verdicts: "",
    examples: &[],
    limits: "",
    looks_at_this_machine: false,
};
/// The kind `sql`.
pub struct Sql;
impl Sql {
    #[doc = "x"]
    pub fn new(_settings: std::sync::Arc<crate::Settings>) -> Self {
        Self
    }
}
impl Monitor for Sql {
    fn manifest(&self) -> &Manifest {
        &MANIFEST
    }
    fn prepare(&self, _config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        Err(ConfigFaults(Vec::new()))
    }
}
