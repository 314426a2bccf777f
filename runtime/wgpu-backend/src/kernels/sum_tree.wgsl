// Sums over the 64 threads of a workgroup by halving: for devices without subgroups.

const LANES = 64u;
const TASKS = 1u;

var<workgroup> shared_sums: array<vec4f, 64>;

fn task_of(group: u32, thread: Thread) -> u32 {
    return group;
}

fn sum_of(value: vec4f, thread: Thread) -> vec4f {
    shared_sums[thread.index] = value;
    workgroupBarrier();
    for (var step = 32u; step > 0u; step /= 2u) {
        if (thread.index < step) {
            shared_sums[thread.index] += shared_sums[thread.index + step];
        }
        workgroupBarrier();
    }
    let sum = shared_sums[0];
    workgroupBarrier();
    return sum;
}

fn max_of(value: f32, thread: Thread) -> f32 {
    shared_sums[thread.index] = vec4f(value);
    workgroupBarrier();
    for (var step = 32u; step > 0u; step /= 2u) {
        if (thread.index < step) {
            shared_sums[thread.index] = max(shared_sums[thread.index], shared_sums[thread.index + step]);
        }
        workgroupBarrier();
    }
    let largest = shared_sums[0].x;
    workgroupBarrier();
    return largest;
}
