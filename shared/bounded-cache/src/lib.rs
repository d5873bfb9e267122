//! What an execution environment remembers from one invocation to the next.
//!
//! An environment may live for hours and see any number of things, so all that is remembered is bounded; and it may end at
//! any moment, so nothing may depend on it.

use std::borrow::Borrow;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

/// Enough for what one environment sees; an entry of ours has less than a KB.
const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);

/// A bounded memory; what was not asked for longest yields first.
pub struct BoundedCache<K: Hash + Eq, V>(Mutex<LruCache<K, V>>);

impl<K: Hash + Eq, V: Clone> Default for BoundedCache<K, V> {
    fn default() -> Self {
        BoundedCache::with_capacity(CAPACITY)
    }
}

impl<K: Hash + Eq, V: Clone> BoundedCache<K, V> {
    /// A memory of so many entries.
    pub fn with_capacity(capacity: NonZeroUsize) -> Self {
        // Unbounded to begin with: a cache that reserves its whole capacity would cost memory before it is used.
        let mut cache = LruCache::unbounded();
        cache.resize(capacity);
        BoundedCache(Mutex::new(cache))
    }

    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.lock().get(key).cloned()
    }

    pub fn insert(&self, key: K, value: V) {
        self.lock().put(key, value);
    }

    pub fn remove<Q: Hash + Eq + ?Sized>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.lock().pop(key);
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_so_many_and_no_more() {
        let ids: BoundedCache<String, String> = BoundedCache::default();
        for i in 0..=CAPACITY.get() {
            ids.insert(format!("device-{i}"), format!("id-{i}"));
        }
        assert_eq!(ids.get("device-0"), None, "the oldest yielded");
        assert_eq!(ids.get("device-1").as_deref(), Some("id-1"));
        ids.remove("device-1");
        assert_eq!(ids.get("device-1"), None);
    }
}
