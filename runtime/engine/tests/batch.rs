//! Several conversations at once: they answer as each does alone, whatever the others do.

mod support;

use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use engine::{Answer, Batch, Device, Engine, Event, GenerateOptions, Message, Part, Result, Role};
use vision::Picture;

type Conversation = Pin<Box<dyn Future<Output = (Engine, Result<Answer>)>>>;

fn batch(device: Device) -> Batch {
    let files = support::model_files(&support::tiny_files());
    Batch::open(&files, device, Box::new(|| 0.0)).unwrap()
}

fn question(engine: &Engine, i: u8) -> Vec<Message> {
    let mut parts = vec![Part::Text(format!("What is number {i}?"))];
    if i.is_multiple_of(2) {
        let picture = Picture::new(70, 100, vec![i.wrapping_mul(40); 70 * 100 * 3]).unwrap();
        parts.insert(0, Part::Image(Arc::new(engine.preprocessor().image(&picture).unwrap())));
    }
    vec![Message { role: Role::User, parts }]
}

fn options(i: u8) -> GenerateOptions {
    GenerateOptions {
        temperature: f64::from(i % 3),
        seed: u64::from(i),
        max_tokens: 6 + usize::from(i),
        prefill_chunk: 5 + usize::from(i),
        ignore_eos: true,
        ..GenerateOptions::default()
    }
}

/// Answers question `i`, and cancels after `n_events`.
fn conversation(mut engine: Engine, i: u8, mut n_events: usize) -> Conversation {
    Box::pin(async move {
        let mut listen = |_: Event| {
            n_events = n_events.saturating_sub(1);
            if n_events == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let messages = question(&engine, i);
        let answer = engine.chat(&messages, &options(i), &mut listen).await;
        (engine, answer)
    })
}

/// Goes on with each conversation, decodes together, and begins again, until all have ended.
fn drive(batch: &Batch, conversations: Vec<Conversation>) -> Vec<(Engine, Answer)> {
    let mut running: Vec<Option<Conversation>> = conversations.into_iter().map(Some).collect();
    let mut ended: Vec<_> = running.iter().map(|_| None).collect();
    while running.iter().any(Option::is_some) {
        for (conversation, ended) in running.iter_mut().zip(&mut ended) {
            let Some(future) = conversation else { continue };
            if let Poll::Ready((engine, answer)) =
                future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            {
                *ended = Some((engine, answer.unwrap()));
                *conversation = None;
            }
        }
        pollster::block_on(batch.step());
    }
    ended.into_iter().map(Option::unwrap).collect()
}

fn alone(device: Device, i: u8) -> Answer {
    let files = support::model_files(&support::tiny_files());
    let mut engine = support::open(&files, device).unwrap();
    let messages = question(&engine, i);
    let listen = &mut |_| ControlFlow::Continue(());
    pollster::block_on(engine.chat(&messages, &options(i), listen)).unwrap()
}

#[test]
fn together_each_answers_as_alone() {
    for device in [Device::Cpu, Device::Reference] {
        let batch = batch(device);
        let conversations = (0..7).map(|i| conversation(batch.engine().unwrap(), i, usize::MAX));
        let mut answers = drive(&batch, conversations.collect());
        for (i, (_, answer)) in (0..).zip(&answers) {
            assert_eq!(answer.token_ids, alone(device, i).token_ids, "{device:?} {i}");
        }
        // And on engines that remember another conversation.
        answers.rotate_left(1);
        let again = (0..).zip(answers).map(|(i, (engine, _))| conversation(engine, i, usize::MAX));
        for (i, (_, answer)) in (0..).zip(drive(&batch, again.collect())) {
            assert_eq!(answer.token_ids, alone(device, i).token_ids, "{device:?} {i} again");
        }
    }
}

#[test]
fn one_that_is_cancelled_or_dropped_disturbs_nobody() {
    let batch = batch(Device::Cpu);
    let expected = alone(Device::Cpu, 5);
    for n_events in 1..9 {
        let mut dropped = conversation(batch.engine().unwrap(), 4, usize::MAX);
        for _ in 0..n_events {
            let _ = dropped.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        drop(dropped);
        let cancelled = conversation(batch.engine().unwrap(), 3, n_events);
        let other = conversation(batch.engine().unwrap(), 5, usize::MAX);
        let mut answers = drive(&batch, vec![cancelled, other]);
        assert_eq!(answers.pop().unwrap().1.token_ids, expected.token_ids);
        // An engine whose conversation was cancelled goes on.
        let (engine, _) = answers.pop().unwrap();
        let again = drive(&batch, vec![conversation(engine, 5, usize::MAX)]).pop().unwrap().1;
        assert_eq!(again.token_ids, expected.token_ids);
    }
}
