//! Refusals that the control API sets: the device refuses paths although they exist and nothing is wrong.

use std::collections::BTreeMap;

use super::Device;
use crate::decoded_operation::DecodedOperation;

impl Device {
    /// Replaces the refusals: reasons by name of the refused path. The error names the path.
    pub(crate) fn set_refusals(&mut self, refusals: &BTreeMap<String, String>) -> Result<(), String> {
        let resolved = refusals.iter().map(|(key, reason)| match self.model.catalogue.resolve(key) {
            Ok(path) => Ok((path, reason.clone())),
            Err(error) => Err(format!("{key:?}: {error}")),
        });
        self.refusals = resolved.collect::<Result<_, _>>()?;
        Ok(())
    }

    pub(crate) fn refusals_by_name(&self) -> BTreeMap<String, String> {
        self.refusals.iter().map(|(path, reason)| (self.name_of(*path), reason.clone())).collect()
    }

    /// Keys of the operation at or below a refused path, and why they are refused.
    pub(crate) fn refused_of(&self, operation: &DecodedOperation) -> BTreeMap<String, String> {
        if self.refusals.is_empty() {
            return BTreeMap::new();
        }
        let refused = |key: String| {
            let path = self.model.catalogue.resolve(&key).ok()?;
            let (_, reason) = self.refusals.iter().find(|(refused, _)| refused.holds(path))?;
            Some((key, reason.clone()))
        };
        operation.operation_keys().into_iter().filter_map(|part| refused(part.key)).collect()
    }
}
