//! From an adapter to a device: which kernels it can run, and how much it can bind.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use tensor::{Error, Result};

use crate::Counters;
use crate::fault::Fault;
use crate::pipeline::Pipelines;
use crate::pool::{Buffer, Pool, Shelf, VIEW_ALIGN};
use crate::recorder::Recorder;

/// Which features of a device kernels use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// What every WebGPU device has: `f32`, no subgroups.
    Plain,
    /// Sums across the lanes of a subgroup.
    Subgroups,
    /// And keys and values kept in `f16`; sums stay in `f32`.
    Half,
}

/// How to run on a device. The default takes the best that the adapter has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// The highest tier to use, if the adapter has it.
    pub highest_tier: Option<Tier>,
    /// Whether each sum is one thread's, without barriers. By default only where the adapter is a program, on
    /// which barriers cost more than everything else.
    pub barrier_free: Option<bool>,
    /// Bytes of one binding, if fewer than the device allows: larger weights are split.
    pub largest_binding: Option<u64>,
}

/// What runs the kernels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// As the driver calls it; may be empty in a browser.
    pub name: String,
    /// The interface to it: `Vulkan`, `Metal`, `Dx12` or `BrowserWebGpu`.
    pub interface: String,
    /// Whether it is a program on the processor rather than a GPU.
    pub is_software: bool,
    /// The tier in use.
    pub tier: Tier,
    /// Whether kernels without barriers are in use.
    pub barrier_free: bool,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "a GPU" } else { &self.name };
        let features = match self.tier {
            Tier::Plain => "f32",
            Tier::Subgroups => "f32, subgroups",
            Tier::Half => "f32, subgroups, f16 storage",
        };
        write!(f, "{name} by {} ({features})", self.interface)?;
        match self.is_software {
            true => write!(f, ", a program and no GPU: expect it to be slower than the CPU"),
            false => Ok(()),
        }
    }
}

/// A WebGPU device as a backend. Cloning shares the device.
#[derive(Clone)]
pub struct Wgpu {
    pub(crate) shared: Rc<Shared>,
}

/// Everything of a device.
pub(crate) struct Shared {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) adapter: Adapter,
    pub(crate) largest_binding: u64,
    pub(crate) fault: Fault,
    pub(crate) pool: Rc<Pool>,
    pub(crate) recorder: RefCell<Recorder>,
    pub(crate) pipelines: RefCell<Pipelines>,
    pub(crate) counters: Cell<Counters>,
    /// Buffers that the host reads from, between reads.
    pub(crate) staging: RefCell<Vec<wgpu::Buffer>>,
    /// Bound where a kernel has an input that this call lacks.
    pub(crate) nothing: Rc<Buffer>,
}

impl Wgpu {
    /// The device that is likely to be the fastest, used as well as it can be.
    ///
    /// # Errors
    /// If there is no adapter, or it gives no device.
    pub async fn request() -> Result<Self> {
        Self::request_with(Options::default()).await
    }

    /// As [`request`](Self::request), used as `options` say.
    ///
    /// # Errors
    /// If there is no adapter, or it gives no device.
    pub async fn request_with(options: Options) -> Result<Self> {
        let failed = |message: String| Error::Device { op: "requesting a GPU", message };
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let wanted = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter = instance.request_adapter(&wanted).await.map_err(|error| {
            failed(format!("there is none that can be used ({error}); install its driver, or use the CPU"))
        })?;
        let has = adapter.features();
        let info = adapter.get_info();
        let best = match () {
            () if !has.contains(wgpu::Features::SUBGROUP) => Tier::Plain,
            () if !has.contains(wgpu::Features::SHADER_F16) => Tier::Subgroups,
            () => Tier::Half,
        };
        let tier = options.highest_tier.map_or(best, |highest| highest.min(best));
        let is_software = info.device_type == wgpu::DeviceType::Cpu;
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("ocelli"),
                required_features: features(tier),
                required_limits: limits(&adapter.limits()),
                ..Default::default()
            })
            .await
            .map_err(|error| failed(format!("{} gives none: {error}", info.name)))?;
        let fault = Fault::default();
        fault.watch(&device);
        let allowed = device.limits();
        let largest_binding = allowed.max_storage_buffer_binding_size.min(allowed.max_buffer_size);
        let pool = Rc::new(Pool::default());
        let shared = Shared {
            adapter: Adapter {
                name: info.name,
                interface: info.backend.to_str().to_owned(),
                is_software,
                tier,
                barrier_free: options.barrier_free.unwrap_or(is_software),
            },
            largest_binding: options.largest_binding.unwrap_or(u64::MAX).min(largest_binding),
            fault,
            nothing: pool.take(&device, Shelf::None, VIEW_ALIGN),
            pool,
            recorder: RefCell::new(Recorder::new(&device)),
            pipelines: RefCell::new(Pipelines::new(&device)),
            counters: Cell::default(),
            staging: RefCell::default(),
            device,
            queue,
        };
        Ok(Self { shared: Rc::new(shared) })
    }

    /// What runs the kernels.
    #[must_use]
    pub fn adapter(&self) -> &Adapter {
        &self.shared.adapter
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.counters.get()
    }

    /// Bytes of the buffers that there are now: weights, caches, activations, and spare ones.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.shared.pool.held_bytes()
    }

    /// Gives the device up and frees its memory at once: for a page that is hidden. Every later operation is an
    /// error.
    pub fn give_up(&self) {
        self.shared.fault.report(|| "the GPU was given up; load the model again".to_owned());
        self.shared.device.destroy();
    }
}

impl fmt::Debug for Wgpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wgpu").field(&self.shared.adapter).finish()
    }
}

impl Shared {
    /// Adds to the counters.
    pub(crate) fn count(&self, add: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        add(&mut counters);
        self.counters.set(counters);
    }

    /// A buffer of `size` bytes for `op`.
    ///
    /// # Errors
    /// If one binding of the device is smaller.
    pub(crate) fn buffer(&self, op: &'static str, shelf: Shelf, size: u64) -> Result<Rc<Buffer>> {
        self.fault.check(op)?;
        let limit = self.device.limits().max_storage_buffer_binding_size;
        if size > limit {
            let message = format!(
                "needs {size} bytes in one piece, but this GPU binds {limit}; use a shorter context or prompt \
                 chunk, or the CPU"
            );
            return Err(Error::Device { op, message });
        }
        let buffer = self.pool.take(&self.device, shelf, size);
        self.fault.check(op)?;
        Ok(buffer)
    }
}

fn features(tier: Tier) -> wgpu::Features {
    match tier {
        Tier::Plain => wgpu::Features::empty(),
        Tier::Subgroups => wgpu::Features::SUBGROUP,
        Tier::Half => wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16,
    }
}

/// The limits of WebGPU, but buffers as large as the adapter has them.
fn limits(adapter: &wgpu::Limits) -> wgpu::Limits {
    wgpu::Limits {
        max_buffer_size: adapter.max_buffer_size,
        max_storage_buffer_binding_size: adapter.max_storage_buffer_binding_size,
        ..wgpu::Limits::default()
    }
}
