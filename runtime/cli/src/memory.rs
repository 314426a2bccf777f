//! How much memory this machine has left, and how fast it reads it.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Larger than the last-level cache of any machine we know.
const PROBE_BYTES: usize = 512 << 20;
/// Smaller machines are not pushed over the edge for a figure.
const PROBE_SHARE: u64 = 4;
const PROBE_TIME: Duration = Duration::from_millis(500);

/// Bytes that this program can still take without swapping; `None` where the system does not say.
pub(crate) fn available() -> Option<u64> {
    let machine = parse_available(&fs::read_to_string("/proc/meminfo").ok()?)?;
    Some(container_limits().fold(machine, u64::min))
}

/// What each of the groups that this process is in, such as a container, still allows.
fn container_limits() -> impl Iterator<Item = u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
    let root = Path::new("/sys/fs/cgroup");
    let folders: Vec<_> =
        root.join(path).ancestors().filter(|dir| dir.starts_with(root)).map(Path::to_owned).collect();
    folders.into_iter().filter_map(|dir| {
        let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
        parse_container(&read("memory.max")?, &read("memory.current")?, &read("memory.stat")?)
    })
}

/// A limit less what is in use, of which the pages of files can be had back.
fn parse_container(max: &str, current: &str, stat: &str) -> Option<u64> {
    let limit: u64 = max.trim().parse().ok()?; // `max` is no limit
    let used: u64 = current.trim().parse().ok()?;
    let files = ["inactive_file ", "active_file "]
        .into_iter()
        .filter_map(|name| stat.lines().find_map(|line| line.strip_prefix(name))?.trim().parse::<u64>().ok());
    Some(limit.saturating_sub(used.saturating_sub(files.sum())))
}

fn parse_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Bytes a second that `n_threads` threads read from memory together: the best of all passes over a
/// buffer in about half a second, since other programs can only slow a pass down.
pub(crate) fn read_bandwidth(n_threads: usize) -> f64 {
    let share = available().map_or(usize::MAX, |bytes| (bytes / PROBE_SHARE) as usize);
    let n_words = PROBE_BYTES.min(share).max(1 << 20) / 8;
    let words: Vec<u64> = (0..n_words as u64).collect();
    let begin = Instant::now();
    let mut best = f64::INFINITY;
    while begin.elapsed() < PROBE_TIME {
        let pass = Instant::now();
        black_box(sum(&words, n_threads));
        best = best.min(pass.elapsed().as_secs_f64());
    }
    (n_words * 8) as f64 / best
}

/// The sum as several independent ones, so that additions do not wait for each other.
fn sum(words: &[u64], n_threads: usize) -> u64 {
    let sum_part = |part: &[u64]| {
        let (chunks, _) = part.as_chunks::<32>();
        let mut sums = [0u64; 32];
        for chunk in chunks {
            for (sum, word) in sums.iter_mut().zip(chunk) {
                *sum = sum.wrapping_add(*word);
            }
        }
        sums.iter().fold(0u64, |total, sum| total.wrapping_add(*sum))
    };
    thread::scope(|scope| {
        let parts = words.chunks(words.len().div_ceil(n_threads.max(1)).max(1));
        let running: Vec<_> = parts.map(|part| scope.spawn(move || sum_part(part))).collect();
        running.into_iter().map(|part| part.join().expect("adding cannot panic")).fold(0, u64::wrapping_add)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_what_is_left() {
        let meminfo = "MemTotal:       24000000 kB\nMemAvailable:    2097152 kB\nBuffers: 1 kB\n";
        assert_eq!(parse_available(meminfo), Some(2 << 30));
        assert_eq!(parse_available("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn a_container_allows_what_it_has_left() {
        let stat = "anon 700\nfile 300\ninactive_file 200\nactive_file 100\n";
        assert_eq!(parse_container("2000\n", "1000\n", stat), Some(1300));
        assert_eq!(parse_container("500\n", "1000\n", stat), Some(0));
        assert_eq!(parse_container("max\n", "1000\n", stat), None);
    }

    #[test]
    fn all_words_are_read() {
        let words: Vec<u64> = (0..3200).collect();
        for n_threads in [1, 2] {
            assert_eq!(sum(&words, n_threads), 3199 * 3200 / 2);
        }
    }
}
