//! Bounded cache of an execution environment, kept from one invocation to the next.
//!
//! An environment may live for hours and see any number of things, so the cache is bounded; and it may end at any moment, so
//! no result may depend on the cache.

#![warn(missing_docs)]

use std::borrow::Borrow;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

/// Default capacity in entries: more than one environment needs, and an entry has less than 1 KB.
const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);

/// Cache with a limited number of entries, which evicts the least recently used one.
pub struct BoundedCache<K: Hash + Eq, V>(Mutex<LruCache<K, V>>);

impl<K: Hash + Eq, V: Clone> Default for BoundedCache<K, V> {
    fn default() -> Self {
        BoundedCache::with_capacity(CAPACITY)
    }
}

impl<K: Hash + Eq, V: Clone> BoundedCache<K, V> {
    /// Creates a cache that holds at most `capacity` entries.
    pub fn with_capacity(capacity: NonZeroUsize) -> Self {
        // `LruCache::new` would reserve the whole capacity, and so cost memory before it is used.
        let mut cache = LruCache::unbounded();
        cache.resize(capacity);
        BoundedCache(Mutex::new(cache))
    }

    /// Returns a copy of the value, and marks the entry as used.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.lock().get(key).cloned()
    }

    /// Inserts a value, or replaces the one under this key.
    pub fn insert(&self, key: K, value: V) {
        self.lock().put(key, value);
    }

    /// Removes the entry, if there is one.
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
    fn the_least_recently_used_entry_is_evicted_beyond_the_capacity() {
        let ids: BoundedCache<String, String> = BoundedCache::default();
        for i in 0..=CAPACITY.get() {
            ids.insert(format!("device-{i}"), format!("id-{i}"));
        }
        assert_eq!(ids.get("device-0"), None, "the oldest was evicted");
        assert_eq!(ids.get("device-1").as_deref(), Some("id-1"));
        ids.remove("device-1");
        assert_eq!(ids.get("device-1"), None);
    }
}
