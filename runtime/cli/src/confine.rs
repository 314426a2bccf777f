//! Programs that can touch only what they are given.

#[cfg_attr(target_os = "linux", path = "confine/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "confine/elsewhere.rs")]
mod system;

pub(crate) use system::*;

/// How far this system keeps a program from what it was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// From files and other processes.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux confines"))]
    Whole,
    /// From most of it.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux confines"))]
    Files,
    /// From nothing.
    Nothing,
}

impl Extent {
    /// What a user has to know of servers of tools here.
    pub(crate) fn lack(self) -> Option<&'static str> {
        match self {
            Extent::Whole => None,
            Extent::Files => Some(
                "this kernel's Landlock is older than that of Linux 6.12, so servers of tools can still send signals \
                 to your other programs and, before Linux 6.2, cut your files short",
            ),
            Extent::Nothing => Some(system::NOTHING),
        }
    }
}
