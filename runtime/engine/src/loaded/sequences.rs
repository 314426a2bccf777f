//! Several sequences over one network, whose tokens are decoded together.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::task::{Poll, Waker};

use model::config::Config;
use tensor::{Backend, Candidate, ExpertUse};

use super::{Loaded, Network, Sequence};
use crate::{CachedRows, LanguageModel, LocalFuture, Memory, ModelInput, Result, Sequences, Traceable};

/// A decoder, its eye if it has one, and the tokens that sequences wait for.
struct LoadedSequences<B: Backend> {
    shared: Rc<Shared<B>>,
}

struct Shared<B: Backend> {
    network: Network<B>,
    waiting: RefCell<Vec<Rc<Job<B>>>>,
    /// How many sequences shared the last step: they will share the rows of the next one.
    last_step: Cell<usize>,
}

/// Tokens that a sequence wants to have decoded; at least one.
struct Job<B: Backend> {
    sequence: Rc<RefCell<Sequence<B>>>,
    tokens: Vec<u32>,
    k: usize,
    result: Cell<Option<Result<Vec<Vec<Candidate>>>>>,
    waker: Cell<Option<Waker>>,
}

/// A job that is withdrawn if nobody waits for it any more.
struct Ticket<'a, B: Backend> {
    shared: &'a Shared<B>,
    job: Rc<Job<B>>,
}

impl<B: Backend> Drop for Ticket<'_, B> {
    fn drop(&mut self) {
        self.shared.waiting.borrow_mut().retain(|job| !Rc::ptr_eq(job, &self.job));
    }
}

/// A loaded model that can be made one of several sequences.
pub(crate) trait IntoSequences: Traceable {
    /// Gives up its one sequence.
    fn into_sequences(self: Box<Self>) -> Box<dyn Sequences>;
}

impl<B: Backend> IntoSequences for Loaded<B> {
    fn into_sequences(self: Box<Self>) -> Box<dyn Sequences> {
        let shared = Shared { network: self.network, waiting: RefCell::default(), last_step: Cell::new(0) };
        Box::new(LoadedSequences { shared: Rc::new(shared) })
    }
}

impl<B: Backend> Shared<B> {
    async fn run(&self, jobs: &[Rc<Job<B>>]) {
        let lens: Vec<usize> = jobs.iter().map(|job| job.sequence.borrow().position_ids.len()).collect();
        match (self.decode(jobs).await, jobs) {
            (Ok(candidates), _) => {
                jobs.iter().zip(candidates).for_each(|(job, candidates)| job.end(Ok(candidates)));
            }
            (Err(error), [job]) => job.end(Err(error)),
            // One of them may have failed for all, so each is tried alone.
            (Err(_), jobs) => {
                for (job, len) in jobs.iter().zip(lens) {
                    let restored = job.sequence.borrow_mut().truncate(&self.network.backend, len);
                    match restored {
                        Ok(()) => Box::pin(self.run(std::slice::from_ref(job))).await,
                        Err(error) => job.end(Err(error)),
                    }
                }
            }
        }
    }

    /// The candidates after every token of every job.
    async fn decode(&self, jobs: &[Rc<Job<B>>]) -> Result<Vec<Vec<Vec<Candidate>>>> {
        let hidden = {
            let mut sequences: Vec<_> = jobs.iter().map(|job| job.sequence.borrow_mut()).collect();
            let mut sequences: Vec<_> = sequences
                .iter_mut()
                .zip(jobs)
                .map(|(sequence, job)| (&mut **sequence, &job.tokens[..]))
                .collect();
            self.network.append_tokens(&mut sequences)?
        };
        let ks = jobs.iter().flat_map(|job| std::iter::repeat_n(job.k, job.tokens.len()));
        let mut rows = self.network.candidates_of_rows(&hidden, ks).await?.into_iter();
        Ok(jobs.iter().map(|job| rows.by_ref().take(job.tokens.len()).collect()).collect())
    }
}

impl<B: Backend> Job<B> {
    fn end(&self, result: Result<Vec<Vec<Candidate>>>) {
        self.result.set(Some(result));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl<B: Backend> Sequences for LoadedSequences<B> {
    fn config(&self) -> &Config {
        &self.shared.network.config
    }

    fn sequence(&self) -> Result<Box<dyn LanguageModel>> {
        let sequence = Rc::new(RefCell::new(self.shared.network.sequence()?));
        Ok(Box::new(Member { shared: Rc::clone(&self.shared), sequence }))
    }

    fn step(&self) -> LocalFuture<'_, usize> {
        Box::pin(async move {
            let jobs = self.shared.waiting.take();
            self.shared.last_step.set(jobs.len());
            if !jobs.is_empty() {
                self.shared.run(&jobs).await;
            }
            jobs.len()
        })
    }
}

/// One of the sequences.
struct Member<B: Backend> {
    shared: Rc<Shared<B>>,
    sequence: Rc<RefCell<Sequence<B>>>,
}

impl<B: Backend> LanguageModel for Member<B> {
    fn config(&self) -> &Config {
        &self.shared.network.config
    }

    fn context_len(&self) -> usize {
        self.sequence.borrow().position_ids.len()
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        self.sequence.borrow_mut().truncate(&self.shared.network.backend, len)
    }

    fn prefill<'a>(
        &'a mut self,
        input: &'a ModelInput,
        chunk: usize,
        k: usize,
        progress: &'a mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> LocalFuture<'a, Result<Vec<Candidate>>> {
        Box::pin(self.shared.network.prefill_chunks(&self.sequence, input, chunk, k, progress, pause))
    }

    fn embed<'a>(
        &'a mut self,
        input: &'a ModelInput,
        chunk: usize,
        progress: &'a mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> LocalFuture<'a, Result<Option<Vec<f32>>>> {
        Box::pin(async move {
            let mean = self.shared.network.embed_chunks(&self.sequence, input, chunk, progress, pause);
            mean.await.map(Some)
        })
    }

    fn exact_rows(&self) -> usize {
        self.shared.network.backend.exact_rows() / self.shared.last_step.get().max(1)
    }

    fn set_drafting(&mut self, on: bool) -> Result<()> {
        self.sequence.borrow_mut().set_drafting(&self.shared.network, on)
    }

    fn draft(&mut self, token: u32, n: usize) -> LocalFuture<'_, Result<Vec<u32>>> {
        Box::pin(self.shared.network.draft(&self.sequence, token, n))
    }

    fn decode_rows<'a>(
        &'a mut self,
        tokens: &'a [u32],
        k: usize,
    ) -> LocalFuture<'a, Result<Vec<Vec<Candidate>>>> {
        if tokens.is_empty() {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        let job = Rc::new(Job {
            sequence: Rc::clone(&self.sequence),
            tokens: tokens.to_vec(),
            k,
            result: Cell::default(),
            waker: Cell::default(),
        });
        Box::pin(async move {
            let ticket = Ticket { shared: &self.shared, job };
            self.shared.waiting.borrow_mut().push(Rc::clone(&ticket.job));
            poll_fn(|context| match ticket.job.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    ticket.job.waker.set(Some(context.waker().clone()));
                    Poll::Pending
                }
            })
            .await
        })
    }

    fn bytes_resident(&self) -> Memory {
        self.shared.network.bytes_resident(self.context_len())
    }

    fn expert_use(&self) -> Option<ExpertUse> {
        self.shared.network.backend.expert_use()
    }

    fn read_cache(&self) -> Result<Option<CachedRows>> {
        self.sequence.borrow().read(&self.shared.network.backend)
    }

    fn write_cache(&mut self, rows: CachedRows) -> Result<bool> {
        self.sequence.borrow_mut().write(&self.shared.network.backend, rows)
    }
}

/// Lets others go on.
async fn pause() {
    let mut is_first = true;
    poll_fn(|context| {
        if std::mem::take(&mut is_first) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}
