//! A real model behind the engine, opened from its files: how it is computed does not change what it says.

mod support;

use std::ops::ControlFlow;
use std::sync::Arc;

use engine::{Answer, Device, Engine, GenerateOptions, Message, Part, Prompt, Role};
use vision::Picture;

fn tiny(device: Device) -> Engine {
    support::open(&support::model_files(&support::tiny_files()), device).unwrap()
}

fn picture(engine: &Engine, seed: u8) -> Part {
    let shade = |i: usize| (i as u8).wrapping_mul(seed).wrapping_add((i / 300) as u8);
    let picture = Picture::new(70, 100, (0..70 * 100 * 3).map(shade).collect()).unwrap();
    Part::Image(Arc::new(engine.preprocessor().image(&picture).unwrap()))
}

fn question(engine: &Engine, seeds: &[u8]) -> Vec<Message> {
    let mut parts: Vec<Part> = seeds.iter().map(|&seed| picture(engine, seed)).collect();
    parts.push(Part::Text("What is this?".to_owned()));
    vec![Message { role: Role::User, parts }]
}

fn sampled() -> GenerateOptions {
    let options = GenerateOptions { temperature: 1.0, top_p: 0.95, seed: 5, ..GenerateOptions::default() };
    GenerateOptions { max_tokens: 24, ignore_eos: true, ..options }
}

fn chat(engine: &mut Engine, messages: &[Message], options: &GenerateOptions) -> Answer {
    pollster::block_on(engine.chat(messages, options, &mut |_| ControlFlow::Continue(()))).unwrap()
}

fn generate(engine: &mut Engine, prompt: &Prompt, options: &GenerateOptions) -> Answer {
    pollster::block_on(engine.generate(prompt, options, &mut |_| ControlFlow::Continue(()))).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let messages = question(&tiny(Device::Cpu), &[3, 7]);
    let expected = chat(&mut tiny(Device::Cpu), &messages, &sampled());
    assert_eq!(expected.token_ids.len(), 24);
    assert_eq!(chat(&mut tiny(Device::Cpu), &messages, &sampled()).token_ids, expected.token_ids);
    let other = GenerateOptions { seed: 6, ..sampled() };
    assert_ne!(chat(&mut tiny(Device::Cpu), &messages, &other).token_ids, expected.token_ids);
}

#[test]
fn cached_prefixes_and_chunks_leave_the_answer_alone() {
    for options in [sampled(), GenerateOptions { temperature: 0.0, ..sampled() }] {
        let mut used = tiny(Device::Cpu);
        let messages = question(&used, &[3, 7]);
        let expected = chat(&mut tiny(Device::Cpu), &messages, &options);
        for chunk in [1, 2, 7, 512] {
            let options = GenerateOptions { prefill_chunk: chunk, ..options.clone() };
            // Another second picture: all before it is kept, and the answer is another one.
            let others = question(&used, &[3, 9]);
            let second = chat(&mut used, &others, &options);
            assert_ne!(second.token_ids, expected.token_ids);
            for reuse_prefix in [true, false, true] {
                let options = GenerateOptions { reuse_prefix, ..options.clone() };
                let answer = chat(&mut used, &messages, &options);
                assert_eq!(answer.token_ids, expected.token_ids, "chunks of {chunk}, {reuse_prefix}");
                assert_eq!(answer.cached_tokens > 0, reuse_prefix);
            }
        }
    }
}

#[test]
fn the_next_turn_is_answered_as_if_all_were_read_anew() {
    let mut used = tiny(Device::Cpu);
    let mut messages = question(&used, &[3]);
    let first = chat(&mut used, &messages, &sampled());
    messages.push(Message::text(Role::Assistant, first.text));
    messages.push(Message::text(Role::User, "And now?"));
    let second = chat(&mut used, &messages, &sampled());
    assert!(second.cached_tokens > 4, "{}", second.cached_tokens);
    assert_eq!(second.token_ids, chat(&mut tiny(Device::Cpu), &messages, &sampled()).token_ids);
}

#[test]
fn both_processors_say_the_same() {
    let greedy = GenerateOptions { temperature: 0.0, max_tokens: 12, ..sampled() };
    let messages = question(&tiny(Device::Cpu), &[3]);
    let expected = chat(&mut tiny(Device::Reference), &messages, &greedy);
    assert_eq!(chat(&mut tiny(Device::Cpu), &messages, &greedy).token_ids, expected.token_ids);
}

#[test]
fn tokens_at_given_positions_are_not_reused() {
    let mut used = tiny(Device::Cpu);
    let greedy = GenerateOptions { temperature: 0.0, ..sampled() };
    let messages = [Message::text(Role::User, "What is the answer to this question?")];
    let prompt = used.prompt(&messages, &greedy).unwrap();
    let expected = generate(&mut tiny(Device::Cpu), &prompt, &greedy);

    let mut elsewhere = prompt.clone();
    let n = prompt.input.token_ids.len() as u32;
    elsewhere.input.position_ids = Some((0..n).map(|i| [i * 3 % 40, i * 7 % 20, i]).collect());
    let given = generate(&mut used, &elsewhere, &greedy);
    assert_ne!(given.token_ids, expected.token_ids);
    for cached in [false, true] {
        let answer = generate(&mut used, &prompt, &greedy);
        assert_eq!((&answer.token_ids, answer.cached_tokens > 0), (&expected.token_ids, cached));
    }
    let again = generate(&mut used, &elsewhere, &greedy);
    assert_eq!((again.token_ids, again.cached_tokens), (given.token_ids, 0));
}

#[test]
fn a_wish_that_the_template_cannot_tell_is_noted() {
    let mut files = support::tiny_files();
    files.iter_mut().find(|(name, _)| name == "chat_template.jinja").unwrap().1 =
        b"{% for m in messages %}{{ m.content[0].text }}{% endfor %}".to_vec();
    let deaf = support::open(&support::model_files(&files), Device::Cpu).unwrap();
    let think = GenerateOptions { enable_thinking: Some(true), ..sampled() };
    let hi = [Message::text(Role::User, "Hi")];
    let notes = deaf.prompt(&hi, &think).unwrap().notes;
    assert_eq!(notes, ["the chat template has no way to tell the model to think"]);
    assert!(deaf.prompt(&hi, &sampled()).unwrap().notes.is_empty());
    assert!(tiny(Device::Cpu).prompt(&hi, &think).unwrap().notes.is_empty());
}

#[test]
fn a_restored_conversation_reads_only_what_is_new() {
    let files = support::model_files(&support::tiny_files());
    let model = files.fingerprint();
    for device in [Device::Cpu, Device::CpuExact] {
        let mut first = tiny(device);
        let mut messages = question(&first, &[3, 7]);
        let answer = chat(&mut first, &messages, &sampled());
        messages.push(Message::text(Role::Assistant, answer.text));
        messages.push(Message::text(Role::User, "And now?"));
        let bytes = first.snapshot(model).unwrap().unwrap();
        let expected = chat(&mut first, &messages, &sampled());

        // Another engine, as after a restart: both pictures and the first answer are known to it.
        let mut second = tiny(device);
        assert_eq!(second.restore(&bytes, model).unwrap(), answer.prompt_tokens + 23);
        let resumed = chat(&mut second, &messages, &sampled());
        assert_eq!(resumed.cached_tokens, expected.cached_tokens);
        // All but the empty thoughts that the template opens an answer with and then forgets.
        let header = second.tokenizer().encode_prompt("<think>\n\n</think>\n\n").len();
        assert_eq!(resumed.cached_tokens, answer.prompt_tokens - header);
        assert_eq!(resumed.token_ids, expected.token_ids);

        // A damaged snapshot, or one of another model, is refused, and everything is read again.
        for (bytes, model) in [(&bytes[..bytes.len() - 1], model), (&bytes[..], model ^ 1)] {
            assert!(second.restore(bytes, model).unwrap_err().to_string().contains("snapshot"));
            let again = chat(&mut second, &messages, &sampled());
            assert_eq!((again.cached_tokens, again.token_ids), (0, expected.token_ids.clone()));
        }
    }
    let mut others = support::tiny_files();
    others[1].1[100] ^= 1;
    assert_ne!(support::model_files(&others).fingerprint(), model);
    assert_eq!(tiny(Device::Cpu).snapshot(model).unwrap(), None);
}
