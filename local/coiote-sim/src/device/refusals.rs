//! What a device refuses, as the control API asks for it: no value is wrong, and it is there, and yet it says no.

use std::collections::BTreeMap;

use super::Device;
use crate::operation::Operation;

impl Device {
    /// In place of the earlier ones: by name of what is refused, with what is said of it. The error names the path.
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

    /// The keys of the operation that are refused, or lie below what is, and why.
    pub(crate) fn refused_of(&self, operation: &Operation) -> BTreeMap<String, String> {
        if self.refusals.is_empty() {
            return BTreeMap::new();
        }
        let refused = |key: String| {
            let path = self.model.catalogue.resolve(&key).ok()?;
            let (_, reason) = self.refusals.iter().find(|(refused, _)| refused.holds(path))?;
            Some((key, reason.clone()))
        };
        operation.parts().into_iter().filter_map(|part| refused(part.key)).collect()
    }
}
