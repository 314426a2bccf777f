//! Reads: the only operations that wait.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use tensor::{Error, Result};

use crate::device::Shared;
use crate::tensor_node::View;

/// Whether a buffer was mapped, and who wants to know.
#[derive(Default)]
struct Mapping {
    result: Option<Result<(), wgpu::BufferAsyncError>>,
    waker: Option<Waker>,
}

impl Shared {
    /// Submits everything recorded and copies the first `size` bytes of `view` to the host.
    pub(crate) async fn read_bytes(&self, op: &'static str, view: &View, size: u64) -> Result<Vec<u8>> {
        self.fault.check(op)?;
        if size == 0 {
            return Ok(Vec::new());
        }
        let staging = self.staging(size.next_power_of_two().max(256));
        self.copy((&view.buffer, view.offset), (&staging, 0), size.next_multiple_of(4));
        self.submit();
        self.count(|counters| {
            counters.reads += 1;
            counters.bytes_read_back += size;
        });
        let mapping = Arc::new(Mutex::new(Mapping::default()));
        let done = Arc::clone(&mapping);
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let mut mapping = done.lock().unwrap_or_else(PoisonError::into_inner);
            mapping.result = Some(result);
            if let Some(waker) = mapping.waker.take() {
                waker.wake();
            }
        });
        // Native devices call back from here; a browser calls back from its event loop, and this does nothing.
        let polled = self.device.poll(wgpu::PollType::wait_indefinitely());
        self.fault.check(op)?;
        polled.map_err(|error| Error::Device { op, message: error.to_string() })?;
        let mapped = self.fault.or(op, |waker| {
            let mut mapping = mapping.lock().unwrap_or_else(PoisonError::into_inner);
            match mapping.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    mapping.waker = Some(waker.clone());
                    Poll::Pending
                }
            }
        });
        let mapped = mapped.await?;
        self.fault.check(op)?;
        mapped.map_err(|error| Error::Device { op, message: error.to_string() })?;
        let bytes = {
            let range = staging.slice(..size.next_multiple_of(4)).get_mapped_range();
            let range = range.map_err(|error| Error::Device { op, message: error.to_string() })?;
            range[..size as usize].to_vec()
        };
        staging.unmap();
        self.staging.borrow_mut().push(staging);
        Ok(bytes)
    }

    /// A buffer of `size` bytes that the host can read: that of an earlier read, if it has the size. Reads that were
    /// dropped before they ended do not give theirs back.
    fn staging(&self, size: u64) -> wgpu::Buffer {
        let mut spare = self.staging.borrow_mut();
        if let Some(i) = spare.iter().position(|buffer| buffer.size() == size) {
            return spare.swap_remove(i);
        }
        // One of another size is not worth keeping.
        spare.clear();
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read"),
            size,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }
}
