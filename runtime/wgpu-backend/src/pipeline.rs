//! Kernels by name, compiled once, and their bind groups, made once for each set of buffers.

use std::collections::HashMap;
use std::rc::Rc;

use tensor::{DType, Gelu, RopePairs};

use crate::device::Shared;
use crate::recorder::PARAMS_BYTES;
use crate::source;
use crate::tensor_node::View;

/// A kernel and what its text is specialised for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kernel {
    /// Products with up to three weights, `x_rows` rows of `x` a thread; `aligned` if rows are whole units.
    MatVec {
        weights: [Option<DType>; 3],
        x_rows: u32,
        aligned: bool,
    },
    /// Queries, keys and values of one row, rotated and stored.
    Qkv {
        weights: [DType; 3],
        aligned: bool,
    },
    /// A tiled product with one weight.
    MatMul {
        weight: DType,
        aligned: bool,
    },
    /// `silu(gate · x) ⊙ (up · x)`, of chosen experts or of one.
    GateUp {
        gate: DType,
        up: DType,
        experts: bool,
        aligned: bool,
    },
    /// One projection of chosen experts.
    ExpertLinear {
        weight: DType,
        aligned: bool,
    },
    /// `Σ weight · down(h)` over the chosen experts of a row.
    ExpertDown {
        weight: DType,
        aligned: bool,
    },
    /// Slots sorted into tiles of one expert each.
    SortSlots,
    /// A tiled product of sorted slots.
    ExpertMatMul {
        weight: DType,
        aligned: bool,
    },
    /// `Σ weight · slot` a row.
    MixSlots,
    /// Logits of a router and the choice of one row.
    Router {
        weight: DType,
        aligned: bool,
    },
    /// `GateUp` of one row by chosen experts and by the shared ones.
    GateUpShared {
        weights: [DType; 4],
        aligned: bool,
    },
    /// The sum of both.
    DownShared {
        weights: [DType; 2],
    },
    /// Rows of a parameter, decoded.
    Embed(DType),
    /// RMS norm of the sum of one to three inputs.
    RmsNorm {
        addends: u32,
    },
    LayerNorm,
    Add,
    SwiGlu,
    Gelu(Gelu),
    Gpas,
    Rope(RopePairs),
    /// Rotates, pads and stores queries, keys and values.
    KvWrite(Option<RopePairs>),
    /// Softmax of scores times values; `padded` is the width of a head in vectors of four.
    Attend {
        padded: u32,
    },
    /// Joins the splits of a long context.
    AttendJoined,
    Gather,
    Scatter,
    Route,
    Argmax,
    /// The best of each run of logits, or of earlier bests.
    TopK {
        first: bool,
    },
}

impl Kernel {
    /// Its bindings: `r` is only read, `w` is written.
    fn access(self) -> &'static str {
        match self {
            Self::MatVec { .. } => "rrrrrrrw",
            Self::Qkv { .. } => "rrrrrwww",
            Self::MatMul { .. } => "rrrw",
            Self::Argmax => "rw",
            Self::GateUp { .. } => "rrrrw",
            Self::ExpertLinear { .. } => "rrrw",
            Self::ExpertDown { .. } => "rrrrw",
            Self::Embed(_) | Self::Add | Self::SwiGlu | Self::Rope(_) | Self::Gather | Self::Gpas => "rrw",
            Self::Scatter => "rrw",
            Self::RmsNorm { .. } => "rrrrww",
            Self::LayerNorm => "rrrw",
            Self::Gelu(_) | Self::AttendJoined => "rw",
            Self::KvWrite(_) => "rrrrwww",
            Self::Attend { .. } => "rrrrw",
            Self::Route => "rrww",
            Self::SortSlots => "rww",
            Self::ExpertMatMul { .. } => "rrrrw",
            Self::MixSlots => "rrw",
            Self::Router { .. } => "rrrww",
            Self::GateUpShared { .. } => "rrrrrrw",
            Self::DownShared { .. } => "rrrrrw",
            Self::TopK { .. } => "rrw",
        }
    }
}

/// A compiled kernel.
pub(crate) struct Pipeline {
    pub(crate) raw: wgpu::ComputePipeline,
    access: &'static str,
}

/// A set of bindings: buffers and where the views into them begin.
#[derive(PartialEq, Eq, Hash)]
struct Bound {
    access: &'static str,
    views: [(u64, u64); 8],
}

/// Everything that is compiled or bound.
pub(crate) struct Pipelines {
    params_layout: wgpu::BindGroupLayout,
    layouts: HashMap<&'static str, wgpu::BindGroupLayout>,
    pipelines: HashMap<Kernel, Rc<Pipeline>>,
    bind_groups: HashMap<Bound, Rc<wgpu::BindGroup>>,
}

impl Pipelines {
    pub(crate) fn new(device: &wgpu::Device) -> Self {
        let params_layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("params"),
            entries: &[wgpu::BindGroupLayoutEntry {
                binding: 0,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Uniform,
                    has_dynamic_offset: true,
                    min_binding_size: None,
                },
                count: None,
            }],
        });
        Self {
            params_layout,
            layouts: HashMap::new(),
            pipelines: HashMap::new(),
            bind_groups: HashMap::new(),
        }
    }

    pub(crate) fn params_group(&self, device: &wgpu::Device, params: &wgpu::Buffer) -> wgpu::BindGroup {
        device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("params"),
            layout: &self.params_layout,
            entries: &[wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: params,
                    offset: 0,
                    size: PARAMS_BYTES.try_into().ok(),
                }),
            }],
        })
    }

    /// Drops the bind groups that hold buffers which are gone.
    pub(crate) fn forget(&mut self, dead: &[u64]) {
        if !dead.is_empty() {
            let dead: std::collections::HashSet<u64> = dead.iter().copied().collect();
            self.bind_groups.retain(|bound, _| !bound.views.iter().any(|(id, _)| dead.contains(id)));
        }
    }

    fn layout(&mut self, device: &wgpu::Device, access: &'static str) -> &wgpu::BindGroupLayout {
        self.layouts.entry(access).or_insert_with(|| {
            let entries: Vec<_> = (0..)
                .zip(access.chars())
                .map(|(binding, access)| wgpu::BindGroupLayoutEntry {
                    binding,
                    visibility: wgpu::ShaderStages::COMPUTE,
                    ty: wgpu::BindingType::Buffer {
                        ty: wgpu::BufferBindingType::Storage { read_only: access == 'r' },
                        has_dynamic_offset: false,
                        min_binding_size: None,
                    },
                    count: None,
                })
                .collect();
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(access),
                entries: &entries,
            })
        })
    }
}

impl Shared {
    /// The compiled `kernel`.
    pub(crate) fn pipeline(&self, kernel: Kernel) -> Rc<Pipeline> {
        let mut pipelines = self.pipelines.borrow_mut();
        if let Some(pipeline) = pipelines.pipelines.get(&kernel) {
            return Rc::clone(pipeline);
        }
        let text = source::of(kernel, &self.adapter);
        let label = format!("{kernel:?}");
        let module = compile(&self.device, &label, text);
        let params_layout = pipelines.params_layout.clone();
        let access = kernel.access();
        let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: &[Some(&params_layout), Some(pipelines.layout(&self.device, access))],
            ..Default::default()
        });
        let raw = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        let pipeline = Rc::new(Pipeline { raw, access });
        pipelines.pipelines.insert(kernel, Rc::clone(&pipeline));
        self.count(|counters| counters.pipelines += 1);
        pipeline
    }

    /// The bind group of `pipeline` with `views`, each from its offset to the end of its buffer.
    pub(crate) fn bind_group(&self, pipeline: &Pipeline, views: &[View]) -> Rc<wgpu::BindGroup> {
        debug_assert_eq!(views.len(), pipeline.access.len(), "one view a binding");
        let mut bound = Bound { access: pipeline.access, views: [(u64::MAX, 0); 8] };
        for (key, view) in bound.views.iter_mut().zip(views) {
            *key = (view.buffer.id, view.offset);
        }
        let mut pipelines = self.pipelines.borrow_mut();
        if let Some(bind_group) = pipelines.bind_groups.get(&bound) {
            return Rc::clone(bind_group);
        }
        let entries: Vec<_> = (0..)
            .zip(views)
            .map(|(binding, view)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &view.buffer.raw,
                    offset: view.offset,
                    size: None,
                }),
            })
            .collect();
        let bind_group = Rc::new(self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: pipelines.layout(&self.device, pipeline.access),
            entries: &entries,
        }));
        pipelines.bind_groups.insert(bound, Rc::clone(&bind_group));
        self.count(|counters| counters.bind_groups += 1);
        bind_group
    }
}

#[expect(unsafe_code, reason = "kernels run without checks of indices")]
fn compile(device: &wgpu::Device, label: &str, text: String) -> wgpu::ShaderModule {
    let descriptor =
        wgpu::ShaderModuleDescriptor { label: Some(label), source: wgpu::ShaderSource::Wgsl(text.into()) };
    // SAFETY: the text is ours. Every kernel ends for tasks beyond its sizes before it touches memory, clamps or
    // skips indices that come from the device, and counts its loops by numbers from its parameters; views begin
    // at the start of a tensor that holds at least the rows and columns that those parameters name.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}
