//! Keys and values of one layer.

use candle_core::{Device, Result, Tensor, bail};
use tensor::{Heads, KvType};

use crate::kernels::attention::KeysValues;

/// Keys and values of one layer, one row a token. Appending writes in place.
pub struct KvCache {
    pub(crate) heads: Heads,
    rows: Rows,
}

enum Rows {
    Host(KeysValues),
    Device { k: Tensor, v: Tensor, len: usize },
}

impl KvCache {
    /// An empty cache in host memory.
    pub(crate) fn host(heads: Heads, kind: KvType, capacity: usize) -> Self {
        Self { heads, rows: Rows::Host(KeysValues::new(heads, kind, capacity)) }
    }

    /// An empty cache on `device`.
    pub(crate) fn device(heads: Heads, capacity: usize, device: &Device) -> Result<Self> {
        let zeros = || Tensor::zeros((capacity.max(1), heads.kv_width()), candle_core::DType::F32, device);
        Ok(Self { heads, rows: Rows::Device { k: zeros()?, v: zeros()?, len: 0 } })
    }

    /// Number of rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        match &self.rows {
            Rows::Host(rows) => rows.n_rows(),
            Rows::Device { len, .. } => *len,
        }
    }

    /// Forgets all rows from `n_rows` on.
    pub(crate) fn truncate(&mut self, n_rows: usize) {
        match &mut self.rows {
            Rows::Host(rows) => rows.truncate(n_rows),
            Rows::Device { len, .. } => *len = n_rows.min(*len),
        }
    }

    /// A copy of all keys and values on the host.
    pub(crate) fn read(&self) -> Result<[Vec<f32>; 2]> {
        match &self.rows {
            Rows::Host(rows) => Ok(rows.read()),
            Rows::Device { k, v, len } => {
                let values = |x: &Tensor| x.narrow(0, 0, *len)?.flatten_all()?.to_vec1();
                Ok([values(k)?, values(v)?])
            }
        }
    }

    /// Appends rows to a host cache; returns all of it.
    pub(crate) fn append_host(&mut self, new_k: &[f32], new_v: &[f32]) -> Result<&KeysValues> {
        match &mut self.rows {
            Rows::Host(rows) => {
                rows.append(new_k, new_v);
                Ok(rows)
            }
            Rows::Device { .. } => bail!("the cache is not in host memory"),
        }
    }

    /// Appends rows to a device cache; returns all of its keys and values.
    pub(crate) fn append_device(&mut self, new_k: &Tensor, new_v: &Tensor) -> Result<(Tensor, Tensor)> {
        let Rows::Device { k, v, len } = &mut self.rows else { bail!("the cache is in host memory") };
        let (start, end) = (*len, *len + new_k.dims()[0]);
        for (all, new) in [(&mut *k, new_k), (&mut *v, new_v)] {
            if end > all.dims()[0] {
                let spare = all.narrow(0, 0, 1)?.zeros_like()?.repeat((2 * end - all.dims()[0], 1))?;
                *all = Tensor::cat(&[&*all, &spare], 0)?;
            }
            all.slice_set(&new.detach(), 0, start)?;
        }
        *len = end;
        Ok((k.narrow(0, 0, end)?, v.narrow(0, 0, end)?))
    }
}
