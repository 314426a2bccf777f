//! `cargo xtask web`: builds the page with everything that it needs, and serves it.

mod serve;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use wasm_bindgen_cli_support::Bindgen;
use worker::chunks::{CHUNK, Listed, Manifest, sha256};

use crate::{browser, cargo};

/// Files that belong to the page as they are.
const STATIC: [&str; 2] = ["web/ui/static", "web/js/src"];
const MODEL: &str = "assets/model";
const MODEL_FILES: [&str; 5] =
    ["config.json", "preprocessor_config.json", "chat_template.jinja", "tokenizer.json", "model.safetensors"];
/// Tells the build of the program where the page lies that it holds.
pub(crate) const PAGE: &str = "OCELLI_PAGE";
const PROFILE: &str = "web";
const TARGET: &str = "wasm32-unknown-unknown";

/// What `cargo xtask web` is told.
pub(crate) struct Options {
    build: bool,
    serve: bool,
    port: u16,
    /// The feature of the program that it becomes a part of.
    into_program: Option<&'static str>,
    /// A model to measure.
    bench: Option<String>,
}

impl Options {
    /// `None` if an option is not known.
    pub(crate) fn parse(options: &[&str]) -> Option<Self> {
        let mut parsed = Self { build: true, serve: true, port: 8000, into_program: None, bench: None };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            match *option {
                "--build-only" => parsed.serve = false,
                "--no-build" => parsed.build = false,
                "--into-program" => parsed.into_program = parsed.into_program.or(Some("page")),
                "--desktop" => parsed.into_program = Some("desktop"),
                "--bench" => parsed.bench = Some((*options.next()?).to_owned()),
                "--port" => parsed.port = options.next()?.parse().ok()?,
                _ => return None,
            }
        }
        (parsed.build || parsed.serve).then_some(parsed)
    }
}

/// Builds and serves, as told.
pub(crate) fn run(options: Options) -> Result<(), String> {
    let page = match options.build {
        true => {
            let page = build()?;
            eprintln!("page: {}\nnpm package: {}", page.display(), package(&page)?.display());
            page
        }
        false => target_folder()?.join("page"),
    };
    if let Some(model) = &options.bench {
        return browser::bench(&page, model);
    }
    if let Some(feature) = options.into_program {
        succeed(cargo(&format!("build --locked --release -p ocelli --features {feature}")).env(PAGE, &page))?;
        eprintln!("program: {}", target_folder()?.join("release/ocelli").display());
        return Ok(());
    }
    match options.serve {
        true => serve::serve(&page, options.port, |address| eprintln!("http://localhost:{}", address.port())),
        false => Ok(()),
    }
}

/// Builds the page and returns its folder.
pub(crate) fn build() -> Result<PathBuf, String> {
    let target = target_folder()?;
    succeed(&mut cargo(&format!("build --locked --profile {PROFILE} --target {TARGET} -p worker -p ui")))?;
    let page = target.join("page");
    if page.exists() {
        fs::remove_dir_all(&page).map_err(|e| format!("cannot empty {}: {e}", page.display()))?;
    }
    for name in ["worker", "ui"] {
        let wasm = target.join(TARGET).join(PROFILE).join(format!("{name}.wasm"));
        let out = if name == "worker" { page.join("engine") } else { page.clone() };
        bind(&wasm, &out).map_err(|e| format!("cannot write the JavaScript of {name}: {e}"))?;
    }
    for folder in STATIC {
        let to = if folder == "web/js/src" { page.join("engine") } else { page.clone() };
        copy_all(Path::new(folder), &to)?;
    }
    copy_model(&page.join("engine/model"))?;
    list_for_offline(&page)?;
    Ok(page)
}

/// Puts together what `npm pack` takes: the package of `web/js` with the engine and the model inside.
pub(crate) fn package(page: &Path) -> Result<PathBuf, String> {
    let package = target_folder()?.join("npm");
    if package.exists() {
        fs::remove_dir_all(&package).map_err(|e| format!("cannot empty {}: {e}", package.display()))?;
    }
    copy_all(&page.join("engine"), &package.join("engine"))?;
    for file in ["package.json", "README.md", "example.html"] {
        copy(&Path::new("web/js").join(file), &package.join(file))?;
    }
    copy(Path::new("LICENSE"), &package.join("LICENSE"))?;
    Ok(package)
}

pub(crate) fn target_folder() -> Result<PathBuf, String> {
    let target = PathBuf::from(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
    Ok(env::current_dir().map_err(|e| e.to_string())?.join(target))
}

/// The JavaScript that loads a module, and the module without what only that needed. `wasm-opt` makes it a
/// little smaller where it is installed.
fn bind(wasm: &Path, out: &Path) -> Result<(), String> {
    let mut bindgen = Bindgen::new();
    bindgen.input_path(wasm).typescript(false).remove_producers_section(true).remove_name_section(true);
    bindgen.web(true).and_then(|bindgen| bindgen.generate(out)).map_err(|e| format!("{e:#}"))?;
    let name = wasm.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let bound = out.join(format!("{name}_bg.wasm"));
    let optimised = out.join("optimised.wasm");
    let mut command = Command::new("wasm-opt");
    command.args(["-O2", "--all-features"]).arg(&bound).arg("-o").arg(&optimised);
    if command.status().is_ok_and(|status| status.success()) {
        fs::rename(&optimised, &bound).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// The model inside, with a list of what its chunks hash to.
fn copy_model(to: &Path) -> Result<(), String> {
    let mut files = Vec::new();
    for name in MODEL_FILES {
        let from = Path::new(MODEL).join(name);
        let bytes = fs::read(&from).map_err(|e| format!("cannot read {}: {e}", from.display()))?;
        let sha256 = bytes.chunks(CHUNK as usize).map(sha256).collect();
        files.push(Listed { name: name.into(), size: bytes.len() as u64, chunk: CHUNK, sha256 });
        copy(&from, &to.join(name))?;
    }
    let manifest = Manifest { name: "the model inside".into(), files };
    let json = serde_json::to_string_pretty(&manifest).map_err(|e| e.to_string())?;
    write(&to.join("manifest.json"), json.as_bytes())
}

/// Tells the service worker what to keep so that the page opens with the network off. Weights are not in the
/// list: the worker keeps them itself.
fn list_for_offline(page: &Path) -> Result<(), String> {
    let mut files = BTreeMap::new();
    for path in walk(page)? {
        let name = path.strip_prefix(page).map_err(|e| e.to_string())?.to_string_lossy().replace('\\', "/");
        let is_weight = name.starts_with("engine/model/") && !name.ends_with("manifest.json");
        if name != "sw.js" && !is_weight {
            files.insert(name, sha256(&fs::read(&path).map_err(|e| e.to_string())?));
        }
    }
    let version = &sha256(format!("{files:?}").as_bytes())[..16];
    let names: Vec<&String> = files.keys().collect();
    let path = page.join("sw.js");
    let script = fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let list = serde_json::to_string(&names).map_err(|e| e.to_string())?;
    let filled =
        script.replacen("\"VERSION\"", &format!("\"{version}\""), 1).replacen("[\"FILES\"]", &list, 1);
    write(&path, filled.as_bytes())
}

fn walk(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| format!("cannot read {}: {e}", folder.display()))? {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.is_dir() { found.extend(walk(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

fn copy_all(from: &Path, to: &Path) -> Result<(), String> {
    for path in walk(from)? {
        copy(&path, &to.join(path.strip_prefix(from).map_err(|e| e.to_string())?))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    write(to, &fs::read(from).map_err(|e| format!("cannot read {}: {e}", from.display()))?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, bytes))
        .map_err(|e| format!("cannot write {}: {e}", path.display()))
}

pub(crate) fn succeed(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} ended with {status}")),
        Err(error) => Err(format!("cannot start {command:?}: {error}")),
    }
}
