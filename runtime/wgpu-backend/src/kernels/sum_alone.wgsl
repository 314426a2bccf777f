// Sums where every thread has a task of its own: no barriers, for adapters that are programs.

const LANES = 1u;
const TASKS = 64u;

fn task_of(group: u32, thread: Thread) -> u32 {
    return group * TASKS + thread.index;
}

fn sum_of(value: vec4f, thread: Thread) -> vec4f {
    return value;
}

fn max_of(value: f32, thread: Thread) -> f32 {
    return value;
}
