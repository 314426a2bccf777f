//! Lists the files of the built page, for the feature `ui`.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=OCELLI_PAGE");
    if env::var_os("CARGO_FEATURE_UI").is_none() {
        return;
    }
    let page = PathBuf::from(env::var_os("OCELLI_PAGE").unwrap_or_default());
    let mut files = Vec::new();
    if let Err(error) = walk(&page, &mut files) {
        let page = page.display();
        panic!("cannot read the page in `{page}` ({error}); `cargo xtask web --into-program` builds it first");
    }
    println!("cargo::rerun-if-changed={}", page.display());
    let mut list = String::from("&[");
    for path in files {
        let name = path.strip_prefix(&page).expect("it was found there").to_string_lossy().replace('\\', "/");
        // Weights are in the program already.
        if !name.starts_with("engine/model/") || name.ends_with("manifest.json") {
            list += &format!("({name:?}, include_bytes!({:?})),\n", path.display().to_string());
        }
    }
    list.push(']');
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("page.rs"), list).expect("the folder of outputs can be written");
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { walk(&path, files)? } else { files.push(path) }
    }
    files.sort();
    Ok(())
}
