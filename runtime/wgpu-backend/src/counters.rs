//! What a run costs on the device, in things that can be counted.

/// Work since the device was requested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Kernels started.
    pub dispatches: u64,
    /// Command buffers submitted.
    pub submits: u64,
    /// Reads back to the host.
    pub reads: u64,
    /// Bytes that those reads copied.
    pub bytes_read_back: u64,
    /// Bytes of weights that kernels read from memory, a row counted each time a workgroup goes over it.
    pub weight_bytes: u64,
    /// Bytes that were written to the device for a step: activations, indices, parameters of kernels.
    pub bytes_uploaded: u64,
    /// Pipelines compiled. No longer grows once every kernel was used.
    pub pipelines: u64,
    /// Bind groups made. No longer grows from step to step.
    pub bind_groups: u64,
}

impl Counters {
    /// What was counted between `earlier` and now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            dispatches: self.dispatches - earlier.dispatches,
            submits: self.submits - earlier.submits,
            reads: self.reads - earlier.reads,
            bytes_read_back: self.bytes_read_back - earlier.bytes_read_back,
            weight_bytes: self.weight_bytes - earlier.weight_bytes,
            bytes_uploaded: self.bytes_uploaded - earlier.bytes_uploaded,
            pipelines: self.pipelines - earlier.pipelines,
            bind_groups: self.bind_groups - earlier.bind_groups,
        }
    }
}
