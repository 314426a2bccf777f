//! Device buffers, and the shelves that buffers of activations are put back on.
//!
//! Commands run in the order they were recorded, so a buffer may be given out again as soon as its last handle is
//! dropped: whatever still reads it was recorded earlier. Only a host write overtakes recorded commands, so buffers
//! for uploads wait on a shelf of their own until the next submit.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// Alignment of a view into a buffer: the default limit of WebGPU.
pub(crate) const VIEW_ALIGN: u64 = 256;
/// Spare bytes above which the shelves are emptied: a long prompt leaves buffers that decoding never needs.
const MAX_SPARE: u64 = 256 << 20;

/// Where a buffer goes when its last handle is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shelf {
    /// Written by kernels: usable at once.
    Scratch,
    /// Written by the host: usable after the next submit.
    Upload,
    /// Weights and caches: freed.
    None,
}

/// A device buffer. Handles are `Rc`.
pub(crate) struct Buffer {
    pub(crate) raw: wgpu::Buffer,
    /// Unique among all buffers of the device.
    pub(crate) id: u64,
    pub(crate) size: u64,
    shelf: Shelf,
    pool: Rc<Pool>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let spare = Spare { raw: self.raw.clone(), id: self.id };
        match self.shelf {
            Shelf::Scratch => self.pool.put(self.shelf, self.size, spare),
            Shelf::Upload => self.pool.retired.borrow_mut().push((self.size, spare)),
            Shelf::None => {
                self.pool.held_bytes.update(|held| held - self.size);
                self.pool.dead.borrow_mut().push(self.id);
            }
        }
    }
}

struct Spare {
    raw: wgpu::Buffer,
    id: u64,
}

/// All buffers that nobody uses, and the sum of all that there are.
#[derive(Default)]
pub(crate) struct Pool {
    next_id: Cell<u64>,
    spare_bytes: Cell<u64>,
    held_bytes: Cell<u64>,
    scratch: RefCell<HashMap<u64, Vec<Spare>>>,
    uploads: RefCell<HashMap<u64, Vec<Spare>>>,
    retired: RefCell<Vec<(u64, Spare)>>,
    /// Ids of buffers that are gone, until the cache of bind groups has heard of them.
    dead: RefCell<Vec<u64>>,
}

impl Pool {
    /// A buffer of at least `size` bytes, from its shelf if there is one.
    pub(crate) fn take(self: &Rc<Self>, device: &wgpu::Device, shelf: Shelf, size: u64) -> Rc<Buffer> {
        let size = if shelf == Shelf::None { size.next_multiple_of(VIEW_ALIGN) } else { class(size) };
        let spare = self.shelf(shelf).and_then(|all| all.borrow_mut().get_mut(&size)?.pop());
        let (raw, id) = match spare {
            Some(spare) => {
                self.spare_bytes.set(self.spare_bytes.get() - size);
                (spare.raw, spare.id)
            }
            None => {
                let id = self.next_id.get();
                self.next_id.set(id + 1);
                self.held_bytes.update(|held| held + size);
                let usage =
                    wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
                let descriptor =
                    wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
                (device.create_buffer(&descriptor), id)
            }
        };
        Rc::new(Buffer { raw, id, size, shelf, pool: Rc::clone(self) })
    }

    fn shelf(&self, shelf: Shelf) -> Option<&RefCell<HashMap<u64, Vec<Spare>>>> {
        match shelf {
            Shelf::Scratch => Some(&self.scratch),
            Shelf::Upload => Some(&self.uploads),
            Shelf::None => None,
        }
    }

    fn put(&self, shelf: Shelf, size: u64, spare: Spare) {
        let Some(all) = self.shelf(shelf) else { return };
        all.borrow_mut().entry(size).or_default().push(spare);
        self.spare_bytes.set(self.spare_bytes.get() + size);
    }

    /// Everything recorded was submitted: buffers that the host wrote may be written again. Returns the ids of
    /// buffers that are gone.
    pub(crate) fn submitted(&self) -> Vec<u64> {
        for (size, spare) in self.retired.take() {
            self.put(Shelf::Upload, size, spare);
        }
        let mut dead = self.dead.take();
        if self.spare_bytes.get() > MAX_SPARE {
            for all in [&self.scratch, &self.uploads] {
                dead.extend(all.take().into_values().flatten().map(|spare| spare.id));
            }
            self.held_bytes.update(|held| held - self.spare_bytes.take());
        }
        dead
    }

    /// Bytes of all buffers, used and spare.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held_bytes.get()
    }
}

/// The size that `size` is rounded up to, so that buffers of a step fit the next: a power of two, or above a
/// mebibyte a quarter of one.
fn class(size: u64) -> u64 {
    let power = size.max(VIEW_ALIGN).next_power_of_two();
    match power > 1 << 20 {
        true => size.next_multiple_of(power / 8),
        false => power,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_waste_little_and_align() {
        for size in [1, 255, 256, 257, 5000, (1 << 20) - 1, (1 << 20) + 1, 3_000_001, 100_000_000] {
            let class = class(size);
            assert!(class >= size && class.is_multiple_of(VIEW_ALIGN), "{size}: {class}");
            assert!(size <= 1 << 20 || class < size + size / 3, "{size}: {class}");
        }
    }
}
