//! Attention in two dispatches: one brings queries, keys and values into form, one attends. For a decoded row the
//! first also computes them.

use std::rc::Rc;

use tensor::{Heads, Mask, Result, RopePairs};

use crate::Tensor;
use crate::device::Wgpu;
use crate::kv_cache::{KvCache, KvRows, padded};
use crate::pipeline::Kernel;
use crate::pool::Shelf;
use crate::recorder::{Dispatch, grid_of};
use crate::tensor_node::{Node, Products, View};
use crate::weight::{Part, UNIT};

/// Query vectors of a workgroup.
const VECTORS: usize = 4;

/// Keys of a tile.
const TILE: usize = 64;
/// Keys that are worth a split, and workgroups that keep a device busy.
const SPLIT_KEYS: usize = 256;
const BUSY_GROUPS: usize = 128;

/// How many parts `keys` are split into where there are few `groups` to share them: decode of a long context.
fn splits(keys: usize, groups: usize) -> usize {
    (BUSY_GROUPS / groups.max(1)).min(keys / SPLIT_KEYS).max(1)
}

/// Queries, keys and values as they were given, and how to rotate them.
struct Inputs {
    views: [View; 4],
    pairs: Option<RopePairs>,
    heads: Heads,
}

/// Which rows of the inputs, and which keys they see.
struct Rows<'a> {
    first: usize,
    n: usize,
    kv: &'a KvRows,
    /// First key and end for each row; `None` if rows are causal.
    bounds: Option<View>,
}

/// One row whose three products and rotations were put off, so that one kernel can do all of it.
struct DecodedRow {
    group: Rc<Products>,
    parts: [Part; 3],
    cos_sin: Tensor,
}

impl DecodedRow {
    /// The row, if nobody has computed any of it and the kernel has its form.
    fn of([q, k, v]: [&Tensor; 3], heads: Heads) -> Option<Self> {
        let (q, k, v) = (q.node.borrow(), k.node.borrow(), v.node.borrow());
        let Node::Rotated { x: q, cos_sin, pairs: RopePairs::Interleaved } = &*q else { return None };
        let Node::Rotated { x: k, cos_sin: other, pairs: RopePairs::Interleaved } = &*k else { return None };
        let product = |node: &Node, wanted: usize| match node {
            Node::Product { group, index } if *index == wanted => Some(Rc::clone(group)),
            _ => None,
        };
        let group = product(&q.node.borrow(), 0)?;
        let alike = Rc::ptr_eq(&group, &product(&k.node.borrow(), 1)?)
            && Rc::ptr_eq(&group, &product(&v, 2)?)
            && Rc::ptr_eq(&cos_sin.node, &other.node)
            && cos_sin.cols == heads.head_dim
            && heads.head_dim.is_multiple_of(4);
        if !alike || group.x.rows != 1 || group.outputs.borrow().is_some() {
            return None;
        }
        let [(q, None), (k, None), (v, None)] = &group.weights[..] else { return None };
        let parts = [q.whole()?, k.whole()?, v.whole()?];
        Some(Self { parts, cos_sin: cos_sin.clone(), group: Rc::clone(&group) })
    }
}

impl Wgpu {
    /// Attention without a cache.
    pub(crate) fn attend(&self, qkv: [&Tensor; 3], heads: Heads, mask: &Mask<'_>) -> Result<Tensor> {
        let n = qkv[0].rows;
        let (out, context) = self.output("attention", n, heads.q_width())?;
        if n == 0 {
            return Ok(context);
        }
        let bounds = match mask {
            Mask::Causal => None,
            Mask::Segments { cu_seqlens, causal } => Some(self.bounds(cu_seqlens, *causal)?),
        };
        let kv = KvRows::new(&self.shared, Shelf::Scratch, heads, n)?;
        let inputs = self.inputs(qkv, heads)?;
        self.attend_rows(&inputs, &Rows { first: 0, n, kv: &kv, bounds }, &out)?;
        Ok(context)
    }

    /// Attention of rows `bounds[i]..bounds[i + 1]` to `caches[i]`, which they are appended to.
    pub(crate) fn attend_cached(
        &self,
        qkv: [&Tensor; 3],
        heads: Heads,
        bounds: &[usize],
        caches: &mut [&mut KvCache],
    ) -> Result<Tensor> {
        let (out, context) = self.output("attention", qkv[0].rows, heads.q_width())?;
        if let [cache] = caches
            && let Some(decoded) = DecodedRow::of(qkv, heads)
        {
            self.reserve(cache, 1)?;
            let queries = self.write_decoded(&decoded, heads, &cache.rows)?;
            self.attend_written(
                queries,
                heads,
                &Rows { first: 0, n: 1, kv: &cache.rows, bounds: None },
                &out,
            )?;
            cache.rows.len += 1;
            return Ok(context);
        }
        let inputs = self.inputs(qkv, heads)?;
        for (bounds, cache) in bounds.windows(2).zip(caches) {
            let (first, n) = (bounds[0], bounds[1] - bounds[0]);
            if n > 0 {
                self.reserve(cache, n)?;
                self.attend_rows(&inputs, &Rows { first, n, kv: &cache.rows, bounds: None }, &out)?;
                cache.rows.len += n;
            }
        }
        Ok(context)
    }

    /// The inputs; rotations of queries and keys that were put off are left to the kernel if they are alike.
    fn inputs(&self, [q, k, v]: [&Tensor; 3], heads: Heads) -> Result<Inputs> {
        let rotated = match (&*q.node.borrow(), &*k.node.borrow()) {
            (
                Node::Rotated { x: q, cos_sin, pairs },
                Node::Rotated { x: k, cos_sin: other, pairs: other_pairs },
            ) if pairs == other_pairs
                && Rc::ptr_eq(&cos_sin.node, &other.node)
                && cos_sin.cols == heads.head_dim =>
            {
                Some((q.clone(), k.clone(), cos_sin.clone(), *pairs))
            }
            _ => None,
        };
        let (views, pairs) = match rotated {
            Some((q, k, cos_sin, pairs)) => {
                ([self.view(&q)?, self.view(&k)?, self.view(v)?, self.view(&cos_sin)?], Some(pairs))
            }
            None => ([self.view(q)?, self.view(k)?, self.view(v)?, self.nothing()], None),
        };
        Ok(Inputs { views, pairs, heads })
    }

    fn attend_rows(&self, inputs: &Inputs, rows: &Rows<'_>, out: &View) -> Result<()> {
        let op = "attention";
        let Inputs { views: [q, k, v, cos_sin], pairs, heads } = inputs;
        let Rows { first, n, kv, .. } = rows;
        let (fours, past) = (padded(*heads), kv.len);
        let (n_heads, n_kv) = (heads.n_heads as u32, heads.n_kv_heads as u32);
        let queries = View::from(&self.scratch(op, n * heads.n_heads * fours * 4)?);
        let (keys, values) = (View::from(&kv.k), View::from(&kv.v));
        let params = [
            [*n as u32, heads.head_dim as u32, fours as u32 * 4, past as u32],
            [n_heads, n_kv, *first as u32, heads.scale().to_bits()],
        ]
        .concat();
        let views = [q, k, v, cos_sin, &queries, &keys, &values].map(View::clone);
        let features = n * (heads.n_heads + 2 * heads.n_kv_heads) * fours * 4;
        self.each(op, Kernel::KvWrite(*pairs), &views, &params, features)?;
        self.attend_written(queries, *heads, rows, out)
    }

    /// The products with a decoded row, rotated and stored. Returns the queries.
    fn write_decoded(&self, decoded: &DecodedRow, heads: Heads, kv: &KvRows) -> Result<View> {
        let op = "attention";
        let DecodedRow { group, parts: [q, k, v], cos_sin } = decoded;
        let x = &group.x;
        let queries = View::from(&self.scratch(op, heads.q_width())?);
        let views = [
            self.view(x)?,
            q.view(),
            k.view(),
            v.view(),
            self.view(cos_sin)?,
            queries.clone(),
            View::from(&kv.k),
            View::from(&kv.v),
        ];
        let of_each = |field: fn(&Part) -> u32| [field(q), field(k), field(v), 0];
        let params = [
            [x.cols.div_ceil(UNIT) as u32, 1, x.cols as u32, 0],
            of_each(|part| part.rows.len() as u32),
            of_each(Part::codes),
            of_each(Part::factors),
            [heads.head_dim as u32, kv.len as u32, heads.scale().to_bits(), 0],
        ]
        .concat();
        let tasks = [q, k, v].map(|part| part.rows.len() as u64 / 4).iter().sum();
        let kernel = Kernel::Qkv {
            weights: [q, k, v].map(|part| part.storage.layout.dtype),
            aligned: x.cols.is_multiple_of(UNIT),
        };
        let dispatch = Dispatch {
            kernel,
            views: &views,
            params: &params,
            grid: grid_of(tasks, self.tasks_per_group()),
            weight_bytes: [q, k, v].iter().map(|part| part.bytes(part.rows.len())).sum(),
        };
        self.shared.dispatch(op, &dispatch)?;
        Ok(queries)
    }

    /// Attention of queries in form to keys and values in form.
    fn attend_written(&self, queries: View, heads: Heads, rows: &Rows<'_>, out: &View) -> Result<()> {
        let op = "attention";
        let Rows { first, n, kv, bounds } = rows;
        let (fours, past) = (padded(heads), kv.len);
        let (n_heads, n_kv) = (heads.n_heads as u32, heads.n_kv_heads as u32);
        let (keys, values) = (View::from(&kv.k), View::from(&kv.v));
        let causal = u32::from(bounds.is_none());
        let vectors = n * (heads.n_heads / heads.n_kv_heads);
        let groups = vectors.div_ceil(VECTORS);
        let splits = match bounds {
            None if !self.shared.adapter.barrier_free => splits(past + n, groups * heads.n_kv_heads),
            _ => 1,
        };
        let a_split = match splits {
            1 => 0,
            _ => (past + n).div_ceil(splits).next_multiple_of(TILE),
        };
        let params = [
            [*n as u32, heads.head_dim as u32, past as u32, causal],
            [n_heads, n_kv, *first as u32, a_split as u32],
        ]
        .concat();
        let queries_in_all = n * heads.n_heads;
        let to = match splits {
            1 => out.clone(),
            _ => View::from(&self.scratch(op, splits * queries_in_all * (heads.head_dim + 2))?),
        };
        let bounds = bounds.clone().unwrap_or_else(|| self.nothing());
        let views = [queries, keys, values, bounds, to.clone()];
        let grid = match self.shared.adapter.barrier_free {
            true => grid_of(queries_in_all as u64, super::GROUP),
            false => [groups as u32, n_kv, splits as u32],
        };
        let kernel = Kernel::Attend { padded: fours as u32 };
        let dispatch = Dispatch { kernel, views: &views, params: &params, grid, weight_bytes: 0 };
        self.shared.dispatch(op, &dispatch)?;
        if splits == 1 {
            return Ok(());
        }
        let first = (first * heads.n_heads) as u32;
        let params = [queries_in_all as u32, heads.head_dim as u32, splits as u32, first];
        self.each(op, Kernel::AttendJoined, &[to, out.clone()], &params, queries_in_all * heads.head_dim)
    }

    /// First key and end of every row.
    fn bounds(&self, cu_seqlens: &[u32], causal: bool) -> Result<View> {
        let mut bytes = Vec::new();
        for segment in cu_seqlens.windows(2) {
            for row in segment[0]..segment[1] {
                let end = if causal { row + 1 } else { segment[1] };
                bytes.extend([segment[0], end].map(u32::to_le_bytes).concat());
            }
        }
        self.upload("attention", &bytes)
    }
}
