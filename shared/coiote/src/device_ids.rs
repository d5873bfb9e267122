//! Device ids by endpoint name, so that a device is looked up once and not for every request.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

/// 1,000: enough for the devices that one execution environment sees, at about 100 bytes each.
const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);

/// A bounded cache; the id that was not used for longest yields first.
pub struct DeviceIds(Mutex<LruCache<String, String>>);

impl Default for DeviceIds {
    fn default() -> Self {
        // Unbounded to begin with: a cache that reserves its whole capacity would cost memory before it is used.
        let mut ids = LruCache::unbounded();
        ids.resize(CAPACITY);
        DeviceIds(Mutex::new(ids))
    }
}

impl DeviceIds {
    pub fn get(&self, endpoint_name: &str) -> Option<String> {
        self.lock().get(endpoint_name).cloned()
    }

    pub fn put(&self, endpoint_name: &str, id: &str) {
        self.lock().put(endpoint_name.to_owned(), id.to_owned());
    }

    /// For a device that Coiote does not know any more under this id.
    pub fn forget(&self, endpoint_name: &str) {
        self.lock().pop(endpoint_name);
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_so_many_and_no_more() {
        let ids = DeviceIds::default();
        for i in 0..=CAPACITY.get() {
            ids.put(&format!("device-{i}"), &format!("id-{i}"));
        }
        assert_eq!(ids.get("device-0"), None, "the oldest yielded");
        assert_eq!(ids.get("device-1").as_deref(), Some("id-1"));
        ids.forget("device-1");
        assert_eq!(ids.get("device-1"), None);
    }
}
