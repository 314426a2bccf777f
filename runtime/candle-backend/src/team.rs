//! A team of threads that share out the pieces of one operation after another.
//!
//! A token passes through some hundred operations of a few microseconds. A pool that puts its threads to sleep
//! in between spends as long on waking them, so members of a team look for work for a while before they
//! sleep, and a piece of work is claimed by one addition, without a lock.

use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle, Thread};

use rayon::prelude::*;

/// How often a member looks for work before it sleeps: some 50 µs, longer than a token computes alone.
const LOOKS: u32 = 2_000;
/// How often the caller looks whether the others are done before it lets other programs run.
const PATIENCE: u32 = 20_000;
/// The stack of a member, which runs kernels only.
const STACK_BYTES: usize = 1 << 20;

/// Threads that compute together.
///
/// Operations called inside [`install`](Self::install) use that team, those called on a thread of rayon's use
/// rayon's pool, and all others a team of one thread for each core.
#[derive(Clone)]
pub struct Team(Arc<Members>);

struct Members {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
}

struct Worker {
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

/// What all members see. Fields that different threads write often have cache lines of their own.
struct Shared {
    /// Counts jobs; a member that sees another number than before looks whether a job is open.
    epoch: Line<AtomicU32>,
    /// Whether members may join the job.
    open: Line<AtomicBool>,
    /// Members that may be reading the job.
    inside: Line<AtomicUsize>,
    /// The first piece that nobody has claimed.
    next: Line<AtomicUsize>,
    /// Members that sleep or are about to.
    asleep: Vec<AtomicBool>,
    /// Whether somebody has the team.
    taken: AtomicBool,
    ended: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    job: UnsafeCell<Job>,
}

#[repr(align(128))]
struct Line<T>(T);

#[derive(Clone, Copy)]
struct Job {
    n_pieces: usize,
    /// Does one piece; valid while the job is open or somebody is inside.
    piece: *const (dyn Fn(usize) + Sync),
}

// SAFETY: `job` is written by the thread that has taken the team while no job is open and nobody inside, and
// read by members that are inside and have then seen the job open (see `Shared::run` and `Shared::join`).
#[expect(unsafe_code, reason = "a job is handed from one thread to others")]
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in `job` is to something that is `Sync`.
#[expect(unsafe_code, reason = "a job is handed from one thread to others")]
unsafe impl Send for Shared {}

thread_local! {
    static INSTALLED: RefCell<Option<Team>> = const { RefCell::new(None) };
    /// Whether this thread is doing a piece: what that calls runs on this thread alone.
    static IN_PIECE: Cell<bool> = const { Cell::new(false) };
}

impl Team {
    /// A team of `n` threads, the calling one among them.
    ///
    /// # Panics
    /// If the system starts no more threads.
    #[must_use]
    pub fn new(n: usize) -> Self {
        let n_workers = n.max(1) - 1;
        let shared = Arc::new(Shared {
            epoch: Line(AtomicU32::new(0)),
            open: Line(AtomicBool::new(false)),
            inside: Line(AtomicUsize::new(0)),
            next: Line(AtomicUsize::new(0)),
            asleep: (0..n_workers).map(|_| AtomicBool::new(false)).collect(),
            taken: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            panic: Mutex::new(None),
            job: UnsafeCell::new(Job { n_pieces: 0, piece: &|_: usize| () }),
        });
        let worker = |i| {
            let shared = Arc::clone(&shared);
            let builder = thread::Builder::new().name(format!("ocelli-{i}")).stack_size(STACK_BYTES);
            let handle = builder.spawn(move || shared.work(i)).expect("the system starts a thread");
            Worker { thread: handle.thread().clone(), handle: Some(handle) }
        };
        Self(Arc::new(Members { workers: (0..n_workers).map(worker).collect(), shared }))
    }

    /// One thread for each core: two threads of one core share what kernels need most.
    #[must_use]
    pub fn of_all_cores() -> Self {
        Self::new(num_cpus::get_physical().min(thread::available_parallelism().map_or(1, usize::from)))
    }

    /// Number of threads.
    #[must_use]
    pub fn n_threads(&self) -> usize {
        self.0.workers.len() + 1
    }

    /// Runs `f`, whose operations on this thread use this team.
    pub fn install<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Restore(Option<Team>);
        impl Drop for Restore {
            fn drop(&mut self) {
                INSTALLED.replace(self.0.take());
            }
        }
        let _restore = Restore(INSTALLED.replace(Some(self.clone())));
        f()
    }

    /// The team that operations called here use.
    #[must_use]
    pub fn current() -> Self {
        static ALL: OnceLock<Team> = OnceLock::new();
        let installed = INSTALLED.with_borrow(Clone::clone);
        installed.unwrap_or_else(|| ALL.get_or_init(Self::of_all_cores).clone())
    }

    /// Does all pieces; `false`, and nothing, if another thread has the team.
    fn run(&self, n_pieces: usize, piece: &(dyn Fn(usize) + Sync)) -> bool {
        let shared = &*self.0.shared;
        if shared.taken.swap(true, SeqCst) {
            return false;
        }
        let job = Job {
            n_pieces,
            // SAFETY: only the lifetime is forgotten; `Closing` waits until nobody can use it any more.
            #[expect(unsafe_code, reason = "members outlive what they work on")]
            piece: unsafe {
                std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(piece)
            },
        };
        // SAFETY: this thread has taken the team, no job is open, and nobody is inside: see `Closing`.
        #[expect(unsafe_code, reason = "the one place that writes the job")]
        unsafe {
            *shared.job.get() = job;
        }
        shared.next.0.store(0, SeqCst);
        IN_PIECE.set(true);
        {
            let _closing = Closing(shared);
            shared.open.0.store(true, SeqCst);
            shared.epoch.0.fetch_add(1, SeqCst);
            for (worker, asleep) in self.0.workers.iter().zip(&shared.asleep) {
                if asleep.swap(false, SeqCst) {
                    worker.thread.unpark();
                }
            }
            shared.claim(&job);
        }
        let panic = shared.panic.lock().expect("nobody panics while holding it").take();
        shared.taken.store(false, SeqCst);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        true
    }
}

/// Ends a job, also when a piece panics on the thread that gave it.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.open.0.store(false, SeqCst);
        let mut looks = 0;
        while self.0.inside.0.load(SeqCst) > 0 {
            looks += 1;
            if looks < PATIENCE { std::hint::spin_loop() } else { thread::yield_now() }
        }
        IN_PIECE.set(false);
        if thread::panicking() {
            // Of several panics the caller's own goes on.
            self.0.panic.lock().expect("nobody panics while holding it").take();
            self.0.taken.store(false, SeqCst);
        }
    }
}

impl Shared {
    /// The life of member `i`.
    fn work(&self, i: usize) {
        IN_PIECE.set(true);
        let mut seen = 0;
        while !self.ended.load(SeqCst) {
            let mut looks = 0;
            loop {
                let epoch = self.epoch.0.load(SeqCst);
                if epoch != seen {
                    seen = epoch;
                    break;
                }
                looks += 1;
                if looks < LOOKS {
                    std::hint::spin_loop();
                    continue;
                }
                self.asleep[i].store(true, SeqCst);
                // A job that was given before it could know of the sleeper is seen here.
                if self.epoch.0.load(SeqCst) == seen && !self.ended.load(SeqCst) {
                    thread::park();
                }
                self.asleep[i].store(false, SeqCst);
                looks = 0;
                if self.ended.load(SeqCst) {
                    return;
                }
            }
            self.join();
        }
    }

    /// Helps with the job, if one is open.
    fn join(&self) {
        self.inside.0.fetch_add(1, SeqCst);
        if self.open.0.load(SeqCst) {
            // SAFETY: the job was open after this thread went inside, so it is not replaced until this thread
            // leaves.
            #[expect(unsafe_code, reason = "the one place where members read the job")]
            let job = unsafe { *self.job.get() };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.claim(&job))) {
                self.panic.lock().expect("nobody panics while holding it").get_or_insert(panic);
            }
        }
        self.inside.0.fetch_sub(1, SeqCst);
    }

    /// Does pieces until none is left.
    fn claim(&self, job: &Job) {
        // SAFETY: the caller gave the job or is inside it.
        #[expect(unsafe_code, reason = "the lifetime was forgotten in `run`")]
        let piece = unsafe { &*job.piece };
        loop {
            let i = self.next.0.fetch_add(1, SeqCst);
            if i >= job.n_pieces {
                return;
            }
            piece(i);
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.shared.ended.store(true, SeqCst);
        for worker in &mut self.workers {
            worker.thread.unpark();
            let ended = worker.handle.take().map(JoinHandle::join);
            debug_assert!(ended.is_none_or(|ended| ended.is_ok()), "members catch panics");
        }
    }
}

/// How many threads [`for_each`] would use here.
pub(crate) fn n_threads() -> usize {
    match rayon::current_thread_index() {
        Some(_) => rayon::current_num_threads(),
        None => Team::current().n_threads(),
    }
}

/// Calls `f` with `0..n`, shared out among the threads of the caller.
pub(crate) fn for_each(n: usize, f: impl Fn(usize) + Sync) {
    let f = &f;
    if n <= 1 || IN_PIECE.get() {
        return (0..n).for_each(f);
    }
    if rayon::current_thread_index().is_some() {
        return (0..n).into_par_iter().for_each(f);
    }
    let team = Team::current();
    if team.n_threads() == 1 || !team.run(n, f) {
        (0..n).for_each(f);
    }
}

/// [`for_each`] of items that are given away.
pub(crate) fn for_each_of<T: Send>(items: impl IntoIterator<Item = T>, f: impl Fn(usize, T) + Sync) {
    let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    for_each(items.len(), |i| {
        let item = items[i].lock().expect("taken once").take();
        f(i, item.expect("pieces are done once"));
    });
}

/// The results of `f` for `0..n`, in order.
pub(crate) fn map<R: Send + Sync>(n: usize, f: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let results: Vec<OnceLock<R>> = (0..n).map(|_| OnceLock::new()).collect();
    for_each(n, |i| {
        let first = results[i].set(f(i)).is_ok();
        debug_assert!(first, "pieces are done once");
    });
    results.into_iter().map(|result| result.into_inner().expect("every piece is done")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once() {
        for n_threads in [1, 2, 5] {
            Team::new(n_threads).install(|| {
                for n in (0..40).chain([1000]) {
                    let done: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                    for_each(n, |i| {
                        done[i].fetch_add(1, SeqCst);
                    });
                    assert!(done.iter().all(|done| done.load(SeqCst) == 1));
                }
            });
        }
    }

    #[test]
    fn results_keep_their_order_and_pieces_may_have_pieces() {
        let rows = Team::new(3).install(|| map(50, |i| map(20, move |j| 20 * i + j)));
        assert_eq!(rows.concat(), (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn items_are_given_away() {
        let mut values = vec![0; 100];
        Team::new(2).install(|| for_each_of(values.chunks_mut(7), |i, chunk| chunk.fill(i)));
        assert!(values.iter().enumerate().all(|(i, &value)| value == i / 7));
    }

    #[test]
    fn members_wake_up_again() {
        let team = Team::new(2);
        for _ in 0..3 {
            let ids = team.install(|| {
                // Each piece waits for the other, so both threads are needed.
                let arrived = AtomicUsize::new(0);
                map(2, |_| {
                    arrived.fetch_add(1, SeqCst);
                    while arrived.load(SeqCst) < 2 {
                        thread::yield_now();
                    }
                    thread::current().id()
                })
            });
            assert_ne!(ids[0], ids[1]);
            while !team.0.shared.asleep[0].load(SeqCst) {
                thread::yield_now();
            }
        }
    }

    #[test]
    fn a_team_that_is_taken_leaves_the_work_to_the_caller() {
        let team = Team::new(2);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..200 {
                        let doubled = team.install(|| map(n, |i| 2 * i));
                        assert_eq!(doubled, (0..n).map(|i| 2 * i).collect::<Vec<_>>());
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_works_on() {
        let team = Team::new(3);
        for failing in [0, 7, 30] {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                team.install(|| for_each(31, |i| assert_ne!(i, failing, "piece {i}")));
            }));
            assert!(caught.is_err());
            assert_eq!(team.install(|| map(5, |i| i)), [0, 1, 2, 3, 4]);
        }
    }
}
