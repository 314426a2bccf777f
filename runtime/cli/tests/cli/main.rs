//! The program as its users meet it: arguments and files in, text and exit codes out.

#[cfg(unix)]
mod agent;
mod bench;
mod commands;
#[cfg(target_os = "linux")]
mod confine;
mod damaged_models;
mod embedded;
mod expert_memory;
mod gpu;
mod help;
mod pictures;
mod quantize;
mod sessions;
mod support;
