//! Commands of a step, kept until something is read: one submit then.

use std::rc::Rc;

use tensor::Result;

use crate::device::Shared;
use crate::pipeline::{Kernel, Pipeline};
use crate::pool::Buffer;
use crate::tensor_node::View;

/// Bytes of one kernel's parameters: 32 numbers.
pub(crate) const PARAMS_BYTES: u64 = 128;
/// Where parameters may begin: the default limit of WebGPU.
const PARAMS_STRIDE: u64 = 256;
/// Kernels of one submit. A long prompt submits more than once, so that the device begins early.
const MAX_DISPATCHES: u64 = 512;
/// Workgroups along one axis: the default limit of WebGPU.
pub(crate) const MAX_GROUPS: u64 = 65_535;

enum Command {
    Dispatch { pipeline: Rc<Pipeline>, bind_group: Rc<wgpu::BindGroup>, params: u32, grid: [u32; 3] },
    Copy { from: (wgpu::Buffer, u64), to: (wgpu::Buffer, u64), size: u64 },
}

/// What was recorded since the last submit.
pub(crate) struct Recorder {
    commands: Vec<Command>,
    params: Vec<u8>,
    params_buffer: wgpu::Buffer,
    params_group: Option<wgpu::BindGroup>,
}

impl Recorder {
    pub(crate) fn new(device: &wgpu::Device) -> Self {
        let params_buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: MAX_DISPATCHES * PARAMS_STRIDE,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Self { commands: Vec::new(), params: Vec::new(), params_buffer, params_group: None }
    }
}

/// One run of a kernel.
pub(crate) struct Dispatch<'a> {
    pub(crate) kernel: Kernel,
    /// In the order of the kernel's bindings.
    pub(crate) views: &'a [View],
    /// As the kernel's `Params` has them, at most 32.
    pub(crate) params: &'a [u32],
    pub(crate) grid: [u32; 3],
    /// Bytes of weights that it reads.
    pub(crate) weight_bytes: u64,
}

impl Shared {
    /// Records a dispatch. An empty grid is nothing to do.
    pub(crate) fn dispatch(&self, op: &'static str, dispatch: &Dispatch<'_>) -> Result<()> {
        if dispatch.grid.contains(&0) {
            return Ok(());
        }
        self.fault.check(op)?;
        if self.recorder.borrow().params.len() as u64 == MAX_DISPATCHES * PARAMS_STRIDE {
            self.submit();
        }
        let pipeline = self.pipeline(dispatch.kernel);
        let bind_group = self.bind_group(&pipeline, dispatch.views);
        let mut recorder = self.recorder.borrow_mut();
        let at = recorder.params.len();
        recorder.params.extend(dispatch.params.iter().flat_map(|param| param.to_le_bytes()));
        recorder.params.resize(at + PARAMS_STRIDE as usize, 0);
        recorder.commands.push(Command::Dispatch {
            pipeline,
            bind_group,
            params: at as u32,
            grid: dispatch.grid,
        });
        self.count(|counters| {
            counters.dispatches += 1;
            counters.weight_bytes += dispatch.weight_bytes;
        });
        Ok(())
    }

    /// Records a copy of `size` bytes, a multiple of four.
    pub(crate) fn copy(&self, from: (&Buffer, u64), to: (&wgpu::Buffer, u64), size: u64) {
        if size > 0 {
            let (from, to) = ((from.0.raw.clone(), from.1), (to.0.clone(), to.1));
            self.recorder.borrow_mut().commands.push(Command::Copy { from, to, size });
        }
    }

    /// Sends everything recorded to the device.
    pub(crate) fn submit(&self) {
        let mut recorder = self.recorder.borrow_mut();
        let recorder = &mut *recorder;
        if !recorder.commands.is_empty() {
            self.queue.write_buffer(&recorder.params_buffer, 0, &recorder.params);
            let params_group = recorder.params_group.get_or_insert_with(|| {
                self.pipelines.borrow().params_group(&self.device, &recorder.params_buffer)
            });
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encode(&recorder.commands, params_group, &mut encoder);
            self.queue.submit([encoder.finish()]);
            self.count(|counters| {
                counters.submits += 1;
                counters.bytes_uploaded += recorder.params.len() as u64;
            });
            recorder.commands.clear();
            recorder.params.clear();
        }
        self.pipelines.borrow_mut().forget(&self.pool.submitted());
    }
}

fn encode(commands: &[Command], params_group: &wgpu::BindGroup, encoder: &mut wgpu::CommandEncoder) {
    for run in
        commands.chunk_by(|a, b| matches!((a, b), (Command::Dispatch { .. }, Command::Dispatch { .. })))
    {
        match run {
            [Command::Copy { from, to, size }] => {
                encoder.copy_buffer_to_buffer(&from.0, from.1, &to.0, to.1, *size);
            }
            dispatches => {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                for dispatch in dispatches {
                    let Command::Dispatch { pipeline, bind_group, params, grid: [x, y, z] } = dispatch else {
                        unreachable!("a run is one copy or dispatches alone");
                    };
                    pass.set_pipeline(&pipeline.raw);
                    pass.set_bind_group(0, params_group, &[*params]);
                    pass.set_bind_group(1, &**bind_group, &[]);
                    pass.dispatch_workgroups(*x, *y, *z);
                }
            }
        }
    }
}

/// Enough workgroups for `tasks` of which each takes `per_group`, laid over two axes where one is too short.
pub(crate) fn grid_of(tasks: u64, per_group: u64) -> [u32; 3] {
    let groups = tasks.div_ceil(per_group);
    match groups <= MAX_GROUPS {
        true => [groups as u32, 1, 1],
        false => [MAX_GROUPS as u32, groups.div_ceil(MAX_GROUPS) as u32, 1],
    }
}
