//! Keys and values of one layer on the device.

use std::rc::Rc;

use tensor::{Error, Heads, Result};

use crate::device::{Shared, Tier, Wgpu};
use crate::pool::{Buffer, Shelf};

/// Keys and values of one layer, one row a token: heads padded to whole vectors of four.
pub struct KvCache {
    pub(crate) heads: Heads,
    pub(crate) rows: KvRows,
}

/// Room for rows of keys and values, and how many there are.
pub(crate) struct KvRows {
    pub(crate) k: Rc<Buffer>,
    pub(crate) v: Rc<Buffer>,
    pub(crate) capacity: usize,
    pub(crate) len: usize,
}

/// Width of a head in vectors of four.
pub(crate) fn padded(heads: Heads) -> usize {
    heads.head_dim.div_ceil(4)
}

impl Shared {
    /// Bytes of a row of keys.
    pub(crate) fn kv_row_bytes(&self, heads: Heads) -> u64 {
        let value = if self.adapter.tier == Tier::Half { 2 } else { 4 };
        (heads.n_kv_heads * padded(heads) * 4 * value) as u64
    }
}

impl KvRows {
    pub(crate) fn new(shared: &Shared, shelf: Shelf, heads: Heads, capacity: usize) -> Result<Self> {
        let size = shared.kv_row_bytes(heads) * capacity.max(1) as u64;
        let op = "cache";
        let (k, v) = (shared.buffer(op, shelf, size)?, shared.buffer(op, shelf, size)?);
        Ok(Self { k, v, capacity: capacity.max(1), len: 0 })
    }
}

impl Wgpu {
    pub(crate) fn new_cache(&self, heads: Heads, capacity: usize) -> Result<KvCache> {
        if !heads.divide_evenly() {
            return Err(Error::shape("cache", format!("{heads:?} do not divide evenly")));
        }
        Ok(KvCache { heads, rows: KvRows::new(&self.shared, Shelf::None, heads, capacity)? })
    }

    /// Makes room for `n` more rows.
    pub(crate) fn reserve(&self, cache: &mut KvCache, n: usize) -> Result<()> {
        let rows = &cache.rows;
        if rows.len + n <= rows.capacity {
            return Ok(());
        }
        let capacity = (rows.len + n).max(2 * rows.capacity);
        let mut larger = KvRows::new(&self.shared, Shelf::None, cache.heads, capacity)?;
        let bytes = self.shared.kv_row_bytes(cache.heads) * rows.len as u64;
        self.shared.copy((&rows.k, 0), (&larger.k.raw, 0), bytes.next_multiple_of(4));
        self.shared.copy((&rows.v, 0), (&larger.v.raw, 0), bytes.next_multiple_of(4));
        larger.len = rows.len;
        cache.rows = larger;
        Ok(())
    }
}
