//! Threads on cores of their own, while something is measured.
//!
//! Which threads compute is the business of the pools below; those that have worked most are they. They are let
//! go before another program or thread is started, which would be bound to the same core.

#[cfg(target_os = "linux")]
pub(super) use linux::{Pinned, cores};
#[cfg(not(target_os = "linux"))]
pub(super) use other::{Pinned, cores};

#[cfg(not(target_os = "linux"))]
mod other {
    use std::io;

    /// Threads that have cores of their own until this is dropped.
    pub(in super::super) struct Pinned;

    impl Pinned {
        pub(in super::super) fn new(_: &[usize]) -> io::Result<Self> {
            Ok(Self)
        }
    }

    pub(in super::super) fn cores(_: usize) -> io::Result<Vec<usize>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux lets a program pin threads"))
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::cmp::Reverse;
    use std::{fs, io};

    use rustix::process::Pid;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// Threads that have cores of their own until this is dropped.
    pub(in super::super) struct Pinned(Vec<(Pid, CpuSet)>);

    impl Pinned {
        /// Gives each of `cores` to one of the threads of this process that worked most so far.
        pub(in super::super) fn new(cores: &[usize]) -> io::Result<Self> {
            let mut threads = Vec::new();
            for entry in fs::read_dir("/proc/self/task")? {
                let path = entry?.path();
                let id =
                    path.file_name().and_then(|name| name.to_str()?.parse().ok()).and_then(Pid::from_raw);
                // A thread may end meanwhile.
                let ticks = fs::read_to_string(path.join("stat")).ok().and_then(|stat| ticks(&stat));
                threads.extend(id.zip(ticks));
            }
            threads.sort_by_key(|&(_, ticks)| Reverse(ticks));
            let mut pinned = Self(Vec::new());
            for (&(thread, _), &core) in threads.iter().zip(cores) {
                let before = sched_getaffinity(Some(thread))?;
                let mut own = CpuSet::new();
                own.set(core);
                sched_setaffinity(Some(thread), &own)?;
                pinned.0.push((thread, before));
            }
            Ok(pinned)
        }
    }

    impl Drop for Pinned {
        fn drop(&mut self) {
            for (thread, before) in &self.0 {
                // A thread that has ended needs nothing.
                let _ = sched_setaffinity(Some(*thread), before);
            }
        }
    }

    /// Processors for `n` threads: one of each core before a second one of any.
    ///
    /// # Errors
    /// If this process may not use so many.
    pub(in super::super) fn cores(n: usize) -> io::Result<Vec<usize>> {
        let allowed = sched_getaffinity(None)?;
        choose(n, |core| allowed.is_set(core), is_first_of_its_core)
    }

    fn choose(
        n: usize,
        is_allowed: impl Fn(usize) -> bool,
        is_first: impl Fn(usize) -> bool,
    ) -> io::Result<Vec<usize>> {
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| is_allowed(core)).collect();
        if n > allowed.len() {
            let message = format!("{n} threads, but only {} processors; give fewer --threads", allowed.len());
            return Err(io::Error::other(message));
        }
        let (firsts, others): (Vec<usize>, _) = allowed.iter().partition(|&&core| is_first(core));
        Ok([firsts, others].concat().into_iter().take(n).collect())
    }

    fn is_first_of_its_core(core: usize) -> bool {
        let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        let siblings = fs::read_to_string(path).unwrap_or_default();
        let first = siblings.trim().split(['-', ',']).next().and_then(|first| first.parse().ok());
        first.is_none_or(|first: usize| first == core)
    }

    /// Time that a thread ran, from its line in `/proc`; its name may hold spaces and brackets.
    fn ticks(stat: &str) -> Option<u64> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn cores_come_before_their_second_threads() {
            let choose = |n| choose(n, |core| core < 6 && core != 1, |core| core % 2 == 0).ok();
            assert_eq!(choose(2), Some(vec![0, 2]));
            assert_eq!(choose(5), Some(vec![0, 2, 4, 3, 5]));
            assert_eq!(choose(6), None);
        }

        #[test]
        fn a_thread_may_have_any_name() {
            let stat = "12 (a) b (c) R 1 1 1 0 -1 64 5 0 0 0 70 8 0 0 20 0 2 0";
            assert_eq!(ticks(stat), Some(78));
            assert_eq!(ticks("12 (a) R 1"), None);
        }

        #[test]
        fn a_pinned_thread_is_let_go_again() {
            let pinned = Pinned::new(&cores(1).unwrap()).unwrap();
            let (thread, before) = pinned.0[0];
            // Another test's thread may end at any time.
            let count = |thread| sched_getaffinity(Some(thread)).map(|set| set.count());
            assert!(count(thread).is_ok_and(|n| n == 1) || count(thread).is_err());
            drop(pinned);
            assert!(count(thread).is_ok_and(|n| n == before.count()) || count(thread).is_err());
        }
    }
}
