//! What the device reported by itself: lost, out of memory, a call it refused.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use tensor::{Error, Result};

/// The first failure of a device. Once there is one, every operation returns it, and reads that wait are woken: a
/// browser may never answer them.
#[derive(Clone, Default)]
pub(crate) struct Fault(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    message: Option<String>,
    waiting: Vec<Waker>,
}

impl Fault {
    /// Remembers `message`, unless something failed before: what follows a failure is its consequence.
    pub(crate) fn report(&self, message: impl FnOnce() -> String) {
        let waiting = {
            let mut state = self.state();
            state.message.get_or_insert_with(message);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The failure, as an error of `op`.
    pub(crate) fn check(&self, op: &'static str) -> Result<()> {
        match &self.state().message {
            Some(message) => Err(Error::Device { op, message: message.clone() }),
            None => Ok(()),
        }
    }

    /// What `poll` gives, or the failure if that comes first.
    pub(crate) async fn or<T>(&self, op: &'static str, mut poll: impl FnMut(&Waker) -> Poll<T>) -> Result<T> {
        poll_fn(|context| {
            let waker = context.waker();
            let mut state = self.state();
            state.waiting.retain(|waiting| !waiting.will_wake(waker));
            // It waits before it looks, so that no failure comes between.
            state.waiting.push(waker.clone());
            drop(state);
            let polled = match self.check(op) {
                Ok(()) => poll(waker).map(Ok),
                Err(error) => Poll::Ready(Err(error)),
            };
            if polled.is_ready() {
                self.state().waiting.retain(|waiting| !waiting.will_wake(waker));
            }
            polled
        })
        .await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to `device`.
    pub(crate) fn watch(&self, device: &wgpu::Device) {
        let fault = self.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            fault.report(|| match error {
                wgpu::Error::OutOfMemory { .. } => {
                    "the GPU is out of memory; use a smaller or more strongly quantised model, a shorter \
                     context, or the CPU"
                        .to_owned()
                }
                error => format!("the GPU refused a call: {error}"),
            });
        }));
        let fault = self.clone();
        device.set_device_lost_callback(move |reason, message| {
            let reason = match reason {
                wgpu::DeviceLostReason::Destroyed => "the GPU was given up",
                _ => "the GPU was lost",
            };
            let detail = if message.is_empty() { String::new() } else { format!(" ({message})") };
            fault.report(|| format!("{reason}{detail}; load the model again, or use the CPU"));
        });
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_waits_hears_of_the_first_failure() {
        let (fault, woken) = (Fault::default(), Arc::new(Woken::default()));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut waiting = pin!(fault.or("read", |_| Poll::<()>::Pending));
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        fault.report(|| "lost".to_owned());
        fault.report(|| "refused".to_owned());
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        let Poll::Ready(Err(error)) = waiting.as_mut().poll(&mut context) else {
            panic!("it goes on waiting")
        };
        assert!(error.to_string().contains("lost"), "{error}");
    }

    #[test]
    fn what_has_its_answer_waits_no_more() {
        let (fault, woken) = (Fault::default(), Arc::new(Woken::default()));
        let waker = Waker::from(Arc::clone(&woken));
        let mut is_there = false;
        let mut read = pin!(fault.or("read", |_| {
            if std::mem::replace(&mut is_there, true) { Poll::Ready(7) } else { Poll::Pending }
        }));
        let mut context = Context::from_waker(&waker);
        assert!(read.as_mut().poll(&mut context).is_pending());
        assert!(matches!(read.as_mut().poll(&mut context), Poll::Ready(Ok(7))));
        fault.report(|| "lost".to_owned());
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    }
}
