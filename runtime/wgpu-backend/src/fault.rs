//! What the device reported by itself: lost, out of memory, a call it refused.

use std::sync::{Arc, Mutex, PoisonError};

use tensor::{Error, Result};

/// The first failure of a device. Once there is one, every operation returns it.
#[derive(Clone, Default)]
pub(crate) struct Fault(Arc<Mutex<Option<String>>>);

impl Fault {
    /// Remembers `message`, unless something failed before: what follows a failure is its consequence.
    pub(crate) fn report(&self, message: impl FnOnce() -> String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(message);
    }

    /// The failure, as an error of `op`.
    pub(crate) fn check(&self, op: &'static str) -> Result<()> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(message) => Err(Error::Device { op, message: message.clone() }),
            None => Ok(()),
        }
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
