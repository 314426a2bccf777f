//! Systems that confine nothing.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::bail;

use super::Extent;

pub(super) const NOTHING: &str =
    "servers of tools can touch every file that you can; only Linux confines them";

pub(crate) fn extent() -> Extent {
    Extent::Nothing
}

pub(crate) fn prefix(_: &[String], _: &[PathBuf], _: &[PathBuf]) -> anyhow::Result<Vec<OsString>> {
    bail!("only Linux confines programs")
}
