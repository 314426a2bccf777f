//! The text of a kernel: its file, the sums of the tier, and the decoders of its weights.
//!
//! Words in capitals stand for constants of a specialisation and are written into the text. `$W` in a decoder is
//! the binding of its weight (`w0` to `w3`), `$S` the component of the parameters that is about it.

use tensor::{DType, Gelu, RopePairs};

use crate::device::{Adapter, Tier};
use crate::pipeline::Kernel;

const COMMON: &str = include_str!("kernels/common.wgsl");
const SUM_ALONE: &str = include_str!("kernels/sum_alone.wgsl");
const SUM_TREE: &str = include_str!("kernels/sum_tree.wgsl");
const SUM_SUBGROUPS: &str = include_str!("kernels/sum_subgroups.wgsl");
const X_ALIGNED: &str = include_str!("kernels/x_aligned.wgsl");
const X_ANY: &str = include_str!("kernels/x_any.wgsl");

/// The decoder of one weight.
fn decoder(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => include_str!("kernels/decode_f32.wgsl"),
        DType::F16 => include_str!("kernels/decode_f16.wgsl"),
        DType::BF16 => include_str!("kernels/decode_bf16.wgsl"),
        DType::Q8_0 => include_str!("kernels/decode_q8_0.wgsl"),
        DType::Q4_0 => include_str!("kernels/decode_q4_0.wgsl"),
        DType::Q4_1 => include_str!("kernels/decode_q4_1.wgsl"),
        DType::Q5_0 => include_str!("kernels/decode_q5_0.wgsl"),
        DType::Q5_1 => include_str!("kernels/decode_q5_1.wgsl"),
        DType::Q4_K => include_str!("kernels/decode_q4_k.wgsl"),
        DType::Q5_K => include_str!("kernels/decode_q5_k.wgsl"),
        DType::Q6_K => include_str!("kernels/decode_q6_k.wgsl"),
        other => unreachable!("{other} has no layout"),
    }
}

/// The decoders of `weights`, in the order of their bindings.
fn decoders(weights: &[DType]) -> String {
    let component = ["x", "y", "z", "w"];
    let one = |(i, dtype): (usize, &DType)| {
        decoder(*dtype).replace("$W", &format!("w{i}")).replace("$S", component[i])
    };
    weights.iter().enumerate().map(one).collect()
}

/// The text of `kernel` for `adapter`.
pub(crate) fn of(kernel: Kernel, adapter: &Adapter) -> String {
    let sums = match (adapter.barrier_free, adapter.tier) {
        (true, _) => SUM_ALONE,
        (false, Tier::Plain) => SUM_TREE,
        (false, Tier::Subgroups | Tier::Half) => SUM_SUBGROUPS,
    };
    let (inputs, thread) = match (adapter.barrier_free, adapter.tier) {
        (true, _) => ("", "Thread(index, 0u, 0u, 1u, 0u)"),
        (false, Tier::Plain) => ("", "Thread(index, index, 0u, 1u, 0u)"),
        (false, Tier::Subgroups | Tier::Half) => (
            ", @builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) n_subgroups: u32, \
             @builtin(subgroup_invocation_id) subgroup_lane: u32",
            "Thread(index, index, subgroup, n_subgroups, subgroup_lane)",
        ),
    };
    let with_sums = |text: &str| {
        let text = text.replace(" SUBGROUP_INPUTS", inputs).replace("THREAD_OF_INPUTS", thread);
        format!("{COMMON}{sums}{text}")
    };
    let x = |aligned: bool| if aligned { X_ALIGNED } else { X_ANY };
    let kv = if adapter.tier == Tier::Half { "f16" } else { "f32" };
    let text = match kernel {
        Kernel::MatVec { weights, x_rows, aligned } => {
            let weights: Vec<DType> = weights.into_iter().flatten().collect();
            let cases: String = (0..weights.len())
                .map(|i| format!("case {i}u: {{ return w{i}_eight(row, unit); }}\n"))
                .collect();
            let text = include_str!("kernels/matvec.wgsl")
                .replace("SEGMENT_CASES", &cases)
                .replace("N_SEGMENTS", &format!("{}u", weights.len()))
                .replace("N_X_ROWS", &format!("{x_rows}u"));
            with_sums(&text) + x(aligned) + &decoders(&weights)
        }
        Kernel::Qkv { weights, aligned } => {
            let text = include_str!("kernels/qkv.wgsl").replace("KV_VALUE", kv);
            with_sums(&text) + x(aligned) + &decoders(&weights)
        }
        Kernel::MatMul { weight, aligned } => {
            format!("{COMMON}{}{}{}", include_str!("kernels/matmul.wgsl"), x(aligned), decoders(&[weight]))
        }
        Kernel::GateUp { gate, up, experts, aligned } => {
            let text = include_str!("kernels/gate_up.wgsl")
                .replace("IS_ROUTED", if experts { "true" } else { "false" });
            with_sums(&text) + x(aligned) + &decoders(&[gate, up])
        }
        Kernel::ExpertLinear { weight, aligned } => {
            with_sums(include_str!("kernels/expert_linear.wgsl")) + x(aligned) + &decoders(&[weight])
        }
        Kernel::ExpertDown { weight, aligned } => {
            with_sums(include_str!("kernels/expert_down.wgsl")) + x(aligned) + &decoders(&[weight])
        }
        Kernel::Embed(dtype) => {
            format!("{COMMON}{}{}", include_str!("kernels/embed.wgsl"), decoders(&[dtype]))
        }
        Kernel::RmsNorm { addends } => {
            with_sums(&include_str!("kernels/rms_norm.wgsl").replace("N_ADDENDS", &format!("{addends}u")))
        }
        Kernel::LayerNorm => with_sums(include_str!("kernels/layer_norm.wgsl")),
        Kernel::Add => format!("{COMMON}{}", include_str!("kernels/add.wgsl")),
        Kernel::SwiGlu => format!("{COMMON}{}", include_str!("kernels/swiglu.wgsl")),
        Kernel::Gelu(kind) => {
            let kind = match kind {
                Gelu::Erf => "erf",
                Gelu::Tanh => "tanh",
                Gelu::Quick => "quick",
            };
            format!(
                "{COMMON}{}",
                include_str!("kernels/gelu.wgsl").replace("GELU_OF", &format!("gelu_{kind}"))
            )
        }
        Kernel::Gpas => format!("{COMMON}{}", include_str!("kernels/gpas.wgsl")),
        Kernel::Rope(kind) => {
            format!("{COMMON}{}", include_str!("kernels/rope.wgsl").replace("PAIRS", pairs(Some(kind))))
        }
        Kernel::KvWrite(kind) => {
            let text = include_str!("kernels/kv_write.wgsl").replace("PAIRS", pairs(kind));
            format!("{COMMON}{}", text.replace("KV_VALUE", kv))
        }
        Kernel::Attend { padded } => {
            let text = match adapter.barrier_free {
                true => include_str!("kernels/attend_alone.wgsl"),
                false => include_str!("kernels/attend.wgsl"),
            };
            let text = text.replace("N_FOURS", &format!("{padded}u"));
            let text = text.replace("N_OWN", &format!("{}u", (padded * 4).div_ceil(64)));
            format!("{COMMON}{}", text.replace("KV_VALUE", kv))
        }
        Kernel::AttendJoined => format!("{COMMON}{}", include_str!("kernels/attend_joined.wgsl")),
        Kernel::SortSlots => format!("{COMMON}{}", include_str!("kernels/sort_slots.wgsl")),
        Kernel::ExpertMatMul { weight, aligned } => {
            let text = include_str!("kernels/expert_matmul.wgsl");
            format!("{COMMON}{text}{}{}", x(aligned), decoders(&[weight]))
        }
        Kernel::MixSlots => format!("{COMMON}{}", include_str!("kernels/mix_slots.wgsl")),
        Kernel::Router { weight, aligned } => {
            with_sums(include_str!("kernels/router.wgsl")) + x(aligned) + &decoders(&[weight])
        }
        Kernel::GateUpShared { weights, aligned } => {
            with_sums(include_str!("kernels/gate_up_shared.wgsl")) + x(aligned) + &decoders(&weights)
        }
        Kernel::DownShared { weights: [routed, shared] } => {
            // The rows of the second weight have a width of their own.
            let shared = decoder(shared).replace("params.shape.x", "params.shape.y");
            let shared = shared.replace("$W", "w1").replace("$S", "y");
            with_sums(include_str!("kernels/down_shared.wgsl")) + &decoders(&[routed]) + &shared
        }
        Kernel::Gather => format!("{COMMON}{}", include_str!("kernels/gather.wgsl")),
        Kernel::Scatter => format!("{COMMON}{}", include_str!("kernels/scatter.wgsl")),
        Kernel::Route => with_sums(include_str!("kernels/route.wgsl")),
        Kernel::Argmax => with_sums(include_str!("kernels/argmax.wgsl")),
        Kernel::TopK { first } => {
            let text =
                include_str!("kernels/top_k.wgsl").replace("IS_FIRST", if first { "true" } else { "false" });
            format!("{COMMON}{text}")
        }
    };
    enable(&text) + &text
}

/// The directives that `text` needs. What runs natively knows subgroups without one and refuses theirs.
fn enable(text: &str) -> String {
    let f16 = if text.contains("f16>") || text.contains("f16(") { "enable f16;\n" } else { "" };
    let subgroups = cfg!(target_family = "wasm") && text.contains("subgroupAdd");
    format!("{f16}{}", if subgroups { "enable subgroups;\n" } else { "" })
}

fn pairs(kind: Option<RopePairs>) -> &'static str {
    match kind {
        None => "0u",
        Some(RopePairs::Interleaved) => "1u",
        Some(RopePairs::Halves) => "2u",
    }
}
