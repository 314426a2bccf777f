//! Which instructions a product may use: decided once, when the program starts.

use std::env;
use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
pub(crate) use crate::arm as arch;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "wasm32")))]
pub(crate) use crate::portable as arch;
#[cfg(target_arch = "wasm32")]
pub(crate) use crate::wasm as arch;
#[cfg(target_arch = "x86_64")]
pub(crate) use crate::x86 as arch;

use crate::{Error, Result};

use arch::Kind;

/// Environment variable that forces a path.
const VARIABLE: &str = "OCELLI_KERNELS";

/// A set of kernels that this machine can run.
///
/// There is no way to have one that it cannot run, which is what makes calling its instructions sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path(Kind);

impl Path {
    /// Plain loops: the definition of every product, on every machine.
    pub const SCALAR: Self = Self(Kind::Scalar);

    /// The paths of this machine, slowest first.
    #[must_use]
    pub fn supported() -> Vec<Self> {
        Kind::supported().into_iter().map(Self).collect()
    }

    /// The fastest path, or the one that `OCELLI_KERNELS` names: `scalar`, `avx2`, `avx512`, `amx`, `neon` or
    /// `simd128`.
    ///
    /// The environment is read once.
    ///
    /// # Errors
    /// If the variable names no path of this machine.
    pub fn chosen() -> Result<Self> {
        static CHOSEN: OnceLock<Result<Path>> = OnceLock::new();
        CHOSEN.get_or_init(|| Self::choose(env::var_os(VARIABLE).map(|v| v.to_string_lossy().into()))).clone()
    }

    fn choose(name: Option<String>) -> Result<Self> {
        let supported = Self::supported();
        let path = match &name {
            None => supported.last(),
            Some(name) => supported.iter().find(|path| path.name() == name),
        };
        path.copied().ok_or_else(|| Error::UnknownPath {
            found: name.unwrap_or_default(),
            supported: supported.iter().map(|path| path.name()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The name that `OCELLI_KERNELS` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Whether products with plain floats have kernels of their own; elsewhere they are the definition's loops.
    #[must_use]
    pub fn has_float_kernels(self) -> bool {
        cfg!(target_arch = "x86_64") && self != Self::SCALAR
    }

    pub(crate) fn kind(self) -> Kind {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_path_can_be_named() {
        for path in Path::supported() {
            assert_eq!(Path::choose(Some(path.name().into())), Ok(path));
        }
        assert_eq!(Path::choose(None).ok(), Path::supported().pop());
    }

    #[test]
    fn an_unknown_path_is_refused_with_the_names_of_the_others() {
        let message = Path::choose(Some("neon9".into())).unwrap_err().to_string();
        assert!(message.starts_with("OCELLI_KERNELS is `neon9`; this machine has: scalar"), "{message}");
    }
}
