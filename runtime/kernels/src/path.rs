//! Which instructions a product may use: decided once, when the program starts.

use std::env;
use std::sync::OnceLock;

use crate::{Error, Result};

/// Environment variable that forces a path.
const VARIABLE: &str = "OCELLI_KERNELS";

/// A set of kernels that this machine can run.
///
/// There is no way to have one that it cannot run, which is what makes calling its instructions sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Path {
    /// Plain loops: the definition of every product, on every machine.
    pub const SCALAR: Self = Self(Kind::Scalar);

    /// The paths of this machine, slowest first.
    #[must_use]
    pub fn supported() -> Vec<Self> {
        let mut paths = vec![Self::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            paths.extend(avx2.then_some(Self(Kind::Avx2)));
            paths.extend((avx2 && avx512).then_some(Self(Kind::Avx512)));
        }
        paths
    }

    /// The fastest path, or the one that `OCELLI_KERNELS` names: `scalar`, `avx2` or `avx512`.
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
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
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
