//! The tests of the page in Chromium, driven from Node.js. `OCELLI_SCREENSHOTS=FOLDER` has them leave pictures of each
//! view there.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::{cargo, web};

/// The page is built in any case. Where there is no browser to open it, the tests are passed over, and this is said.
pub(crate) fn tests() -> Result<Vec<Command>, String> {
    const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let page = web::build()?;
    let package = web::package(&page)?;
    let answers = |program: &str| {
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    let Some(chromium) = BROWSERS.into_iter().find(|name| answers(name)) else {
        eprintln!("== browser tests passed over: there is no Chromium; on Debian, install chromium");
        return Ok(Vec::new());
    };
    let is_recent =
        Command::new("node").args(["-e", "process.exit(+(parseInt(process.versions.node) < 20))"]).status();
    if !is_recent.is_ok_and(|status| status.success()) || !answers("npm") {
        eprintln!("== browser tests passed over: there is no Node.js 20 with npm to drive {chromium}");
        return Ok(Vec::new());
    }
    let target = web::target_folder()?;
    let folder = target.join("browser");
    fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(format!("tests/browser/{file}"), folder.join(file))
            .map_err(|e| format!("cannot copy {file}: {e}"))?;
    }
    let mut install = Command::new("npm");
    install.args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&folder);
    let mut test = Command::new("node");
    test.args(["--test", "--test-concurrency=1", "--test-reporter=spec"]);
    let tests = ["page", "storage", "access", "package", "memory", "gpu"];
    test.args(tests.map(|name| format!("tests/browser/{name}.test.mjs")));
    test.env("OCELLI_NODE_MODULES", &folder);
    test.env("OCELLI_PAGE", &page).env("OCELLI_NPM", &package).env("OCELLI_CHROMIUM", path_of(chromium)?);
    test.env("OCELLI_XTASK", env::current_exe().map_err(|e| e.to_string())?);
    test.env("OCELLI", target.join("debug").join(format!("ocelli{}", env::consts::EXE_SUFFIX)));
    Ok(vec![cargo("test --workspace --locked --no-run --quiet"), install, test])
}

/// Where a program lies.
fn path_of(program: &str) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&path).map(|folder| folder.join(program));
    places.find(|place| place.is_file()).ok_or_else(|| format!("{program} is not on the PATH"))
}
