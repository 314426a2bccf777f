// The Gaussian error linear unit, value by value. GELU_OF is one of the three below.

struct Params {
    shape: vec4u, // values
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> x: array<f32>;
@group(1) @binding(1) var<storage, read_write> out: array<f32>;

// The error function to 1.5e-7. Source: Abramowitz and Stegun, 7.1.26.
fn erf(x: f32) -> f32 {
    let z = abs(x);
    let t = 1.0 / (1.0 + 0.3275911 * z);
    let p = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return sign(x) * (1.0 - p * exp(-min(z * z, 80.0)));
}

fn gelu_erf(x: f32) -> f32 {
    return 0.5 * x * (1.0 + erf(x * 0.70710678));
}

// 1 + tanh(u) is 2 σ(2u).
fn gelu_tanh(x: f32) -> f32 {
    return x * sigmoid(1.5957691216 * (x + 0.044715 * x * x * x));
}

fn gelu_quick(x: f32) -> f32 {
    return x * sigmoid(1.702 * x);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) index: u32
) {
    let at = group_number(group, groups) * 64u + index;
    if (at < params.shape.x) {
        out[at] = GELU_OF(x[at]);
    }
}
