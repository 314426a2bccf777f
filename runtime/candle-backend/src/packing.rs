//! Weights laid out once more, so that products read them straight through.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use kernels::Matrix;
use tensor::{RawTensor, SharedBytes};

use crate::team;

/// Memory for packed weights, shared by all weights of a model.
#[derive(Debug)]
pub(crate) struct Packing {
    limit: u64,
    used: AtomicU64,
}

impl Packing {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0) }
    }

    /// Bytes of the weights that were packed.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The blocks of `raw` as [`Matrix::packed`] takes them, or `None` where they stay as they are: another type, rows
    /// that are no whole panels, or no memory left.
    ///
    /// They are read from their file, if they lie in one, so that its pages do not become part of this process.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn pack(&self, raw: &RawTensor) -> io::Result<Option<SharedBytes>> {
        let Some(panel) = panel_bytes(raw) else { return Ok(None) };
        let n_bytes = raw.bytes.len();
        // What was made for this model alone is in memory once already.
        if raw.bytes.is_copy() || !self.reserve(n_bytes as u64) {
            return Ok(None);
        }
        let mut packed = vec![0; n_bytes];
        let panels = packed.chunks_mut(panel).enumerate();
        let failed = Mutex::new(None);
        team::for_each_of(panels, |_, (i, out)| {
            let bytes = raw.bytes.slice(i * panel..(i + 1) * panel).expect("a panel of the weight");
            let mut rows = vec![0; panel];
            match bytes.read_into(&mut rows) {
                Ok(()) => Matrix::pack(raw.dtype, &rows, out).expect("rows of whole blocks"),
                Err(error) => *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(Some(SharedBytes::new(packed))),
        }
    }

    /// Takes `n` of the bytes that are left, if there are as many.
    fn reserve(&self, n: u64) -> bool {
        let take = |used: u64| used.checked_add(n).filter(|&used| used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// Bytes of the rows of `raw` that are packed together; `None` if its type or its number of rows cannot be packed.
pub(crate) fn panel_bytes(raw: &RawTensor) -> Option<usize> {
    let n_rows = raw.rows();
    let is_whole = n_rows > 0 && n_rows.is_multiple_of(Matrix::PANEL_ROWS);
    (is_whole && raw.dtype.is_quantized()).then(|| raw.bytes.len() / n_rows * Matrix::PANEL_ROWS)
}

/// Packs the rows of `raw`, read into `bytes`, where they are, if they can be packed.
pub(crate) fn pack_in_place(raw: &RawTensor, bytes: &mut [u8]) {
    let Some(panel) = panel_bytes(raw) else { return };
    let mut rows = vec![0; panel];
    for panel in bytes.chunks_mut(panel) {
        rows.copy_from_slice(panel);
        Matrix::pack(raw.dtype, &rows, panel).expect("rows of whole blocks");
    }
}

#[cfg(test)]
mod tests {
    use tensor::{DType, FileBytes};

    use super::*;

    /// Bytes that can be mapped but, from `end` on, no longer read.
    struct File {
        bytes: Vec<u8>,
        end: usize,
    }

    impl AsRef<[u8]> for File {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    impl FileBytes for File {
        fn read_at(&self, offset: usize, out: &mut [u8]) -> io::Result<()> {
            if offset + out.len() > self.end {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            out.copy_from_slice(&self.bytes[offset..][..out.len()]);
            Ok(())
        }
    }

    /// Rows of one block, in which every byte counts up.
    fn weight(dtype: DType, n_rows: usize, end: usize) -> RawTensor {
        let (n_cols, n) = (dtype.block().values, n_rows * dtype.block().bytes);
        let bytes = (0..n).map(|i| i as u8).collect();
        RawTensor::new("w", dtype, vec![n_rows, n_cols], SharedBytes::of_file(File { bytes, end })).unwrap()
    }

    #[test]
    fn every_byte_is_there_once() {
        let raw = weight(DType::Q4_0, 48, usize::MAX);
        let packed = Packing::new(u64::MAX).pack(&raw).unwrap().unwrap();
        let mut in_place = raw.bytes.as_ref().to_vec();
        pack_in_place(&raw, &mut in_place);
        assert_eq!(packed.as_ref(), in_place);
        let packed = packed.as_ref();
        // The first piece of a panel are the factors of its rows.
        let rows: Vec<&[u8]> = raw.bytes.as_ref().chunks(18).collect();
        for (row, factor) in packed[16 * 18..][..32].chunks(2).enumerate() {
            assert_eq!(factor, &rows[16 + row][..2]);
        }
        let sorted = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes.sort_unstable();
            bytes
        };
        assert_eq!(sorted(packed), sorted(raw.bytes.as_ref()));
    }

    #[test]
    fn the_limit_holds_and_what_is_packed_is_counted() {
        let packing = Packing::new(48 * 18);
        assert!(packing.pack(&weight(DType::Q4_0, 64, usize::MAX)).unwrap().is_none(), "too large");
        assert!(packing.pack(&weight(DType::Q4_0, 32, usize::MAX)).unwrap().is_some());
        assert!(packing.pack(&weight(DType::Q4_0, 32, usize::MAX)).unwrap().is_none(), "no more room");
        assert_eq!(packing.used(), 32 * 18);
    }

    #[test]
    fn what_has_no_panels_or_is_a_copy_stays() {
        let packing = Packing::new(u64::MAX);
        assert!(packing.pack(&weight(DType::Q4_0, 17, usize::MAX)).unwrap().is_none());
        assert!(packing.pack(&weight(DType::F16, 16, usize::MAX)).unwrap().is_none());
        let raw = weight(DType::Q4_0, 16, usize::MAX);
        let bytes = SharedBytes::copy(raw.bytes.as_ref().to_vec());
        assert!(packing.pack(&RawTensor { bytes, ..raw }).unwrap().is_none());
        assert_eq!(packing.used(), 0);
    }

    #[test]
    fn a_file_that_ends_early_is_an_error_that_names_the_weight() {
        let stored = crate::Stored::new(weight(DType::Q4_0, 32, 20 * 18));
        for _ in 0..2 {
            let error = stored.pack(&Packing::new(u64::MAX)).unwrap_err().to_string();
            assert!(error.contains("`w` cannot be read"), "{error}");
        }
    }
}
