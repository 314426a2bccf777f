//! Moving rows about.

use tensor::Result;

use crate::device::Wgpu;
use crate::pipeline::Kernel;
use crate::recorder::{Dispatch, grid_of};
use crate::weight::UNIT;
use crate::{Ids, Tensor, Weight};

impl Wgpu {
    /// Rows `ids` of a parameter.
    pub(crate) fn decode_rows(&self, table: &Weight, ids: &Ids) -> Result<Tensor> {
        let cols = table.0.cols;
        let (out, rows) = self.output("embed", ids.len, cols)?;
        let units = cols.div_ceil(UNIT);
        let parts = table.0.parts.borrow();
        for part in parts.iter() {
            let views = [part.view(), ids.view.clone(), out.clone()];
            let params = [
                [units as u32, ids.len as u32, cols as u32, part.rows.start as u32],
                [part.rows.len() as u32, u32::from(parts.len() > 1), 0, 0],
                [part.codes(), 0, 0, 0],
                [part.factors(), 0, 0, 0],
            ]
            .concat();
            let dispatch = Dispatch {
                kernel: Kernel::Embed(part.storage.layout.dtype),
                views: &views,
                params: &params,
                grid: grid_of((ids.len * units) as u64, super::GROUP),
                weight_bytes: part.bytes(ids.len),
            };
            self.shared.dispatch("embed", &dispatch)?;
        }
        Ok(rows)
    }

    pub(crate) fn gather_rows(&self, x: &Tensor, rows: &Ids) -> Result<Tensor> {
        // All rows in their order are the rows themselves: a decoded token asks for its only one.
        if x.rows == 1 && rows.host.as_deref() == Some(&[0]) {
            return Ok(x.clone());
        }
        let (out, gathered) = self.output("gather", rows.len, x.cols)?;
        let params = [rows.len as u32, x.cols as u32, x.rows as u32, 0];
        let views = [self.view(x)?, rows.view.clone(), out];
        self.each("gather", Kernel::Gather, &views, &params, rows.len * x.cols)?;
        Ok(gathered)
    }

    pub(crate) fn scatter_rows(&self, x: &Tensor, rows: &Ids, src: &Tensor) -> Result<Tensor> {
        let from = self.view(x)?;
        let src = self.view(src)?;
        let (out, scattered) = self.output("scatter", x.rows, x.cols)?;
        self.shared.copy((&from.buffer, from.offset), (&out.buffer.raw, 0), x.n_bytes());
        let params = [rows.len as u32, x.cols as u32, x.rows as u32, 0];
        self.each("scatter", Kernel::Scatter, &[src, rows.view.clone(), out], &params, rows.len * x.cols)?;
        Ok(scattered)
    }
}
