//! Kernels for AMX: one instruction multiplies up to twelve activation rows with the sixteen rows of a panel.
//!
//! Products of bytes are exact, so their sums are those of the other paths; AVX-512 makes floats of them. Tiles and
//! panels already lie as the two operands must. The codes of a panel are signed here, which leaves nothing to correct.

#![expect(unsafe_code, reason = "tile registers are reached by instructions that have no functions yet")]

use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::OnceLock;

use tensor::DType;

use super::avx512::{Sums, vector};
use crate::activations::{Tile, TileChunk};
use crate::panel::{CHUNK, Coding, GROUP, LANES, Panel, Source};
use crate::unpack::{self, Codes, Factors, Sink};

/// Words of a group.
const WORDS: usize = GROUP / 4;
/// Bytes of a vector.
const VECTOR: usize = 4 * LANES;

/// Whether this processor has the instructions and the system lets this process use them, which it asks for.
pub(super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_instructions() && may_use_tiles())
}

fn has_instructions() -> bool {
    const TILES: u32 = 1 << 24;
    const BYTES: u32 = 1 << 25;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (TILES | BYTES) == TILES | BYTES
}

/// Tile registers take 8 KiB of every thread that uses them; Linux gives them to those that ask.
#[cfg(target_os = "linux")]
fn may_use_tiles() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: a request with two numbers, which changes nothing but what this process may do.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn may_use_tiles() -> bool {
    false
}

/// The tile registers of one thread, which are given back when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Registers {
    /// Activation rows that they are set for; none if they are not set.
    n_rows: Cell<usize>,
    /// They belong to the thread.
    not_send: PhantomData<*const ()>,
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Of each register.
    row_bytes: [u16; 16],
    n_rows: [u8; 16],
}

/// For so many activation rows: sums in register 0, activations in 1, weights in 2; for half groups in 3 and 4.
static CONFIGS: [Config; Tile::MAX_ROWS + 1] = {
    let mut configs = [const { Config::new(0) }; Tile::MAX_ROWS + 1];
    let mut n_rows = 1;
    while n_rows <= Tile::MAX_ROWS {
        configs[n_rows] = Config::new(n_rows as u8);
        n_rows += 1;
    }
    configs
};

impl Config {
    const fn new(n_rows: u8) -> Self {
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        let shapes = [
            (n_rows, VECTOR),
            (n_rows, GROUP),
            (WORDS as u8, VECTOR),
            (n_rows, GROUP / 2),
            (WORDS as u8 / 2, VECTOR),
        ];
        let mut i = 0;
        while i < shapes.len() {
            (rows[i], row_bytes[i]) = (shapes[i].0, shapes[i].1 as u16);
            i += 1;
        }
        Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, n_rows: rows }
    }
}

impl Registers {
    /// Sets them for so many activation rows.
    ///
    /// # Safety
    /// [`is_available`].
    unsafe fn set(&self, n_rows: usize) {
        if self.n_rows.get() != n_rows {
            let config = &CONFIGS[n_rows];
            // SAFETY: the processor has them, the configuration is a valid one, and nobody else's is overwritten:
            // only this module uses them, from one value at a time in each thread.
            unsafe { asm!("ldtilecfg [{}]", in(reg) config, options(nostack, readonly)) }
            self.n_rows.set(n_rows);
        }
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        if self.n_rows.get() != 0 {
            // SAFETY: they were set, so the processor has them.
            unsafe { asm!("tilerelease", options(nostack, nomem)) }
        }
    }
}

/// Unpacks the whole blocks in `rows`, to signed codes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
pub(super) fn unpack(dtype: DType, rows: impl Source, panel: &mut Panel) {
    let offset = _mm512_set1_epi8(Coding::of(dtype).offset as i8);
    unpack::unpack::<__m512i>(dtype, rows, &mut SignedPanel { panel, offset });
}

/// A panel for codes that are their values.
struct SignedPanel<'a> {
    panel: &'a mut Panel,
    /// What codes were above their values.
    offset: __m512i,
}

impl Sink<__m512i> for SignedPanel<'_> {
    #[inline(always)]
    fn expect(&self, n: usize) {
        Sink::<__m512i>::expect(&*self.panel, n);
    }

    #[inline(always)]
    fn take(&mut self, index: usize, codes: impl Codes<__m512i>, factors: Factors<__m512i>) {
        self.panel.take(index, Signed { codes, offset: self.offset }, factors);
    }
}

#[derive(Clone, Copy)]
struct Signed<C> {
    codes: C,
    offset: __m512i,
}

impl<C: Codes<__m512i>> Codes<__m512i> for Signed<C> {
    #[inline(always)]
    fn word(self, i: usize) -> __m512i {
        // SAFETY: the instructions are the kernel's.
        unsafe { _mm512_sub_epi8(self.codes.word(i), self.offset) }
    }
}

/// Integer sums of all rows of a tile with a panel.
#[repr(C, align(64))]
struct Dots([[i32; LANES]; Tile::MAX_ROWS]);

/// Where sums begin: `tilezero` waits for the products before it, loading does not.
static ZEROS: Dots = Dots([[0; LANES]; Tile::MAX_ROWS]);

/// Adds the products of panels with all rows of a tile to the sums of each, as [`crate::scalar::multiply`] does.
///
/// # Safety
/// [`is_available`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
pub(super) unsafe fn multiply<'a>(
    registers: &Registers,
    dtype: DType,
    panels: &[Panel],
    x: TileChunk<'_>,
    sums: impl Iterator<Item = &'a mut [[f32; LANES]]>,
) {
    // SAFETY: the caller keeps it.
    unsafe { registers.set(x.stride()) }
    match Coding::of(dtype) {
        Coding { halves: true, .. } => by_rows::<2, false>(registers, panels, x, sums),
        Coding { minima: true, .. } => by_rows::<1, true>(registers, panels, x, sums),
        _ => by_rows::<1, false>(registers, panels, x, sums),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
fn by_rows<'a, const PARTS: usize, const MINIMA: bool>(
    registers: &Registers,
    panels: &[Panel],
    x: TileChunk<'_>,
    sums: impl Iterator<Item = &'a mut [[f32; LANES]]>,
) {
    const { assert!(Tile::STRIDES.len() == 7, "one kernel for each stride") };
    match x.stride() {
        1 => rows::<1, PARTS, MINIMA>(registers, panels, x, sums),
        2 => rows::<2, PARTS, MINIMA>(registers, panels, x, sums),
        3 => rows::<3, PARTS, MINIMA>(registers, panels, x, sums),
        4 => rows::<4, PARTS, MINIMA>(registers, panels, x, sums),
        6 => rows::<6, PARTS, MINIMA>(registers, panels, x, sums),
        8 => rows::<8, PARTS, MINIMA>(registers, panels, x, sums),
        12 => rows::<12, PARTS, MINIMA>(registers, panels, x, sums),
        n => unreachable!("a tile of {n} rows"),
    }
}

/// While the sums of one part become floats, those of the next are stored and the products of the one after it begin,
/// across panels: each takes longer than floats do, and what waits for it waits with it.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
fn rows<'a, const M: usize, const PARTS: usize, const MINIMA: bool>(
    registers: &Registers,
    panels: &[Panel],
    x: TileChunk<'_>,
    sums: impl Iterator<Item = &'a mut [[f32; LANES]]>,
) {
    let n_parts = PARTS * x.n_groups();
    assert!(x.codes.len() == x.n_groups() * M && x.n_groups() <= CHUNK / GROUP, "codes of a tile");
    let mut ahead = Ahead { panels, part: 0, n_parts };
    let mut dots = [const { Dots([[0; LANES]; Tile::MAX_ROWS]) }; 2];
    let [mut now, mut next] = dots.each_mut();
    // There is nothing to store at first.
    for _ in 0..2 {
        advance::<M, PARTS>(registers, now, x, ahead.next());
    }
    for (panel, sums) in panels.iter().zip(sums) {
        let mut acc = Sums::<M, PARTS, 0>::new(x, sums);
        for part in 0..n_parts {
            advance::<M, PARTS>(registers, next, x, ahead.next());
            acc.add_part(part, vector(&panel.scales[part]), |row| {
                // SAFETY: the array has the size and alignment of a vector.
                unsafe { _mm512_load_si512(now.0[row].as_ptr().cast()) }
            });
            if MINIMA {
                acc.add_minimum(part, vector(&panel.minima[part]));
            }
            std::mem::swap(&mut now, &mut next);
        }
        acc.store(sums);
    }
}

/// All parts of panels, in turn. (`flat_map` is a call in the innermost loop.)
struct Ahead<'a> {
    panels: &'a [Panel],
    part: usize,
    n_parts: usize,
}

impl<'a> Iterator for Ahead<'a> {
    type Item = (&'a Panel, usize);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.part == self.n_parts {
            (self.panels, self.part) = (self.panels.get(1..)?, 0);
        }
        let part = self.part;
        self.part += 1;
        Some((self.panels.first()?, part))
    }
}

/// Stores the sums that were begun last, then begins those of the part that is given.
#[inline(always)]
fn advance<const M: usize, const PARTS: usize>(
    registers: &Registers,
    dots: &mut Dots,
    x: TileChunk<'_>,
    ahead: Option<(&Panel, usize)>,
) {
    store::<M>(registers, dots);
    if let Some((panel, part)) = ahead {
        begin::<M, PARTS>(registers, panel, x, part);
    }
}

/// Stores the sums that were begun last.
#[inline(always)]
fn store<const M: usize>(registers: &Registers, dots: &mut Dots) {
    debug_assert_eq!(registers.n_rows.get(), M, "rows that the registers are set for");
    // SAFETY: `multiply` set the registers for `M` rows, which `dots` has at least.
    unsafe {
        asm!("tilestored [{} + {}], tmm0", in(reg) dots, in(reg) VECTOR, options(nostack, preserves_flags));
    }
}

/// Begins the products of one of the `PARTS` parts of a group with `M` rows.
#[inline(always)]
fn begin<const M: usize, const PARTS: usize>(
    registers: &Registers,
    panel: &Panel,
    x: TileChunk<'_>,
    part: usize,
) {
    const { assert!(M <= Tile::MAX_ROWS && PARTS <= 2) };
    debug_assert_eq!(registers.n_rows.get(), M, "rows that the registers are set for");
    let n_words = WORDS / PARTS;
    // SAFETY: `multiply` set the registers for `M` rows. `rows` made sure that `x` has such a row for every group and
    // the panel all groups; a part is in both, `GROUP` bytes from row to row of `x`. `ZEROS` has at least `M` rows.
    unsafe {
        let x = x.codes.as_ptr().add(part / PARTS * M).cast::<u32>().add(part % PARTS * n_words);
        let codes = panel.codes.as_ptr().add(part * n_words);
        asm!(
            "tileloadd tmm0, [{zeros} + {vector}]",
            "tileloadd tmm{rows}, [{x} + {group}]",
            "tileloadd tmm{weights}, [{codes} + {vector}]",
            "tdpbssd tmm0, tmm{rows}, tmm{weights}",
            rows = const 2 * PARTS - 1,
            weights = const 2 * PARTS,
            zeros = in(reg) &ZEROS,
            x = in(reg) x,
            codes = in(reg) codes,
            vector = in(reg) VECTOR,
            group = in(reg) GROUP,
            options(nostack, preserves_flags, readonly),
        );
    }
}
