// Sums over the 64 threads of a workgroup: each subgroup adds in one step, then their sums are added.

const LANES = 64u;
const TASKS = 1u;

var<workgroup> shared_sums: array<vec4f, 64>;

fn task_of(group: u32, thread: Thread) -> u32 {
    return group;
}

fn sum_of(value: vec4f, thread: Thread) -> vec4f {
    let own = subgroupAdd(value);
    if (thread.subgroup_lane == 0u) {
        shared_sums[thread.subgroup] = own;
    }
    workgroupBarrier();
    var sum = shared_sums[0];
    for (var i = 1u; i < thread.n_subgroups; i++) {
        sum += shared_sums[i];
    }
    workgroupBarrier();
    return sum;
}

fn max_of(value: f32, thread: Thread) -> f32 {
    let own = subgroupMax(value);
    if (thread.subgroup_lane == 0u) {
        shared_sums[thread.subgroup] = vec4f(own);
    }
    workgroupBarrier();
    var largest = shared_sums[0].x;
    for (var i = 1u; i < thread.n_subgroups; i++) {
        largest = max(largest, shared_sums[i].x);
    }
    workgroupBarrier();
    return largest;
}
