//! The tests of the page in Chromium, driven from Node.js. `OCELLI_SCREENSHOTS=FOLDER` has them leave pictures of each
//! view there.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{answers, cargo, ocelli, web};

/// Has Node.js end after a test that failed, though that has left a browser or a server behind.
const END: &str = "--test-force-exit";

/// The page is built in any case. Where there is no browser to open it, the tests are passed over, and this is said.
pub(crate) fn tests() -> Result<Vec<Command>, String> {
    let page = web::build()?;
    let Some(chromium) = chromium() else {
        eprintln!("== browser tests passed over: there is no Chromium; on Debian, install chromium");
        return Ok(Vec::new());
    };
    if !has_node() {
        eprintln!(
            "== browser tests passed over: there is no Node.js of at least 20.14 with npm to drive {chromium}"
        );
        return Ok(Vec::new());
    }
    let tests = ["page", "storage", "access", "served", "package", "memory", "gpu"];
    commands(chromium, &page, "ocelli/page", &tests)
}

/// The program in the tray of a desktop that is not there.
pub(crate) fn desktop() -> Result<Vec<Command>, String> {
    let page = web::build()?;
    let chromium = chromium().ok_or("there is no Chromium; on Debian, install chromium")?;
    commands(chromium, &page, "ocelli/desktop", &["desktop"])
}

/// Builds the program with this feature, then runs these tests.
fn commands(chromium: &str, page: &Path, feature: &str, tests: &[&str]) -> Result<Vec<Command>, String> {
    let mut test = Command::new("node");
    test.args(["--test", END, "--test-concurrency=1", "--test-reporter=spec"]);
    test.args(tests.iter().map(|name| format!("tests/browser/{name}.test.mjs")));
    let install = prepare(&mut test, chromium, page, &["--omit=optional"])?;
    // As the tests build it, so that only the program itself is compiled once more.
    let mut program = cargo(&format!("test --workspace --locked --no-run --quiet --features {feature}"));
    program.env(web::PAGE, page);
    Ok(vec![program, install, test])
}

/// Measures the page's engine on the file `model` beside another one, in turns.
pub(crate) fn bench(page: &Path, model: &str) -> Result<(), String> {
    let chromium = chromium().ok_or("there is no Chromium; on Debian, install chromium")?;
    if !has_node() {
        return Err("there is no Node.js of at least 20.14 with npm".into());
    }
    let mut bench = Command::new("node");
    bench.args(["tests/browser/bench.mjs", model]);
    web::succeed(&mut prepare(&mut bench, chromium, page, &[])?)?;
    web::succeed(&mut bench)
}

/// Tells `script` where everything is. Returns the command that installs what it needs.
fn prepare(script: &mut Command, chromium: &str, page: &Path, options: &[&str]) -> Result<Command, String> {
    let folder = web::target_folder()?.join("browser");
    fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(format!("tests/browser/{file}"), folder.join(file))
            .map_err(|e| format!("cannot copy {file}: {e}"))?;
    }
    let mut install = Command::new("npm");
    install.args(["ci", "--silent", "--no-audit", "--no-fund"]).args(options).current_dir(&folder);
    script.env("OCELLI_NODE_MODULES", &folder);
    script.env("OCELLI_PAGE", page).env("OCELLI_NPM", web::package(page)?);
    script.env("OCELLI_CHROMIUM", path_of(chromium)?);
    script.env("OCELLI_XTASK", env::current_exe().map_err(|e| e.to_string())?);
    script.env("OCELLI", ocelli()?);
    Ok(install)
}

fn chromium() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome", "chrome"].into_iter().find(|name| answers(name))
}

/// Whether there is a Node.js that is recent enough, and npm.
fn has_node() -> bool {
    let is_recent = Command::new("node").args([END, "--eval", ""]).output();
    is_recent.is_ok_and(|output| output.status.success()) && answers("npm")
}

/// Where a program lies.
fn path_of(program: &str) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&path).map(|folder| folder.join(program));
    places.find(|place| place.is_file()).ok_or_else(|| format!("{program} is not on the PATH"))
}
