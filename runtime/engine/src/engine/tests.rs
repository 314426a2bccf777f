mod guidance;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use model::config::{Architecture, RopeKind, SpecialTokens, TextConfig, VisionConfig};
use proptest::prelude::*;
use vision::Picture;

use super::*;
use crate::chat_template::BuiltIn;
use crate::prompt::{Part, Role};
use crate::scripted::Scripted;
use crate::{Guesses, Speculation};

fn tokenizer() -> Tokenizer {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/recorded/tokenizer/tokenizer.json");
    Tokenizer::from_json(&std::fs::read(path).unwrap()).unwrap()
}

fn config(tokenizer: &Tokenizer, with_pictures: bool) -> Config {
    let id = |token| tokenizer.token_id(token).unwrap();
    let text = TextConfig {
        hidden_size: 8,
        intermediate_size: 8,
        vocab_size: tokenizer.vocab_size(),
        n_layers: 1,
        n_heads: 1,
        n_kv_heads: 1,
        head_dim: 8,
        rope_theta: 1e4,
        rope: RopeKind::Interleaved1d,
        rms_norm_eps: 1e-5,
        use_bias: false,
        tie_word_embeddings: true,
        lm_head_bias: false,
        max_position_embeddings: 4096,
        moe: None,
        gpas: false,
    };
    let vision = VisionConfig {
        depth: 1,
        hidden_size: 8,
        intermediate_size: 8,
        patch_size: 14,
        n_heads: 1,
        in_channels: 3,
        spatial_merge_size: 2,
        temporal_merge_size: 2,
        norm_eps: 1e-6,
        rope_theta: 1e4,
    };
    Config {
        architecture: if with_pictures { Architecture::VisionLanguage } else { Architecture::Dense },
        text,
        vision: with_pictures.then_some(vision),
        tokens: SpecialTokens {
            image_placeholder: id("<|IMAGE_PLACEHOLDER|>"),
            video_placeholder: Some(id("<|VIDEO_PLACEHOLDER|>")),
            image_start: id("<|IMAGE_START|>"),
            image_end: id("<|IMAGE_END|>"),
            video_start: id("<|VIDEO_START|>"),
            video_end: id("<|VIDEO_END|>"),
            eos: vec![id("</s>")],
        },
    }
}

fn engine_of(template: BuiltIn, change: impl FnOnce(Scripted) -> Scripted) -> Engine {
    let tokenizer = tokenizer();
    let config = config(&tokenizer, matches!(template, BuiltIn::Vl | BuiltIn::VlThinking));
    let ticks = Rc::new(Cell::new(0.0));
    let clock = Box::new(move || {
        ticks.set(ticks.get() + 1.0);
        ticks.get()
    });
    Engine::new(EngineParts {
        model: Box::new(change(Scripted::new(config))),
        tokenizer,
        template: ChatTemplate::built_in(template),
        preprocessor: Preprocessor::default(),
        clock,
    })
    .unwrap()
}

fn engine(template: BuiltIn) -> Engine {
    engine_of(template, |model| model)
}

/// An engine whose model answers the question "Hi" with `answer`.
fn saying(template: BuiltIn, answer: &str) -> Engine {
    let prompt = engine(template).prompt(&[user("Hi")], &GenerateOptions::default()).unwrap();
    let ids = tokenizer().encode_prompt(answer);
    engine_of(template, |model| model.saying(prompt.input.token_ids.len(), &ids))
}

fn user(text: &str) -> Message {
    Message::text(Role::User, text)
}

fn picture(grey: u8) -> Part {
    let picture = Picture::new(60, 90, vec![grey; 60 * 90 * 3]).unwrap();
    Part::Image(Arc::new(Preprocessor::default().image(&picture).unwrap()))
}

fn chat(engine: &mut Engine, messages: &[Message], options: &GenerateOptions) -> Answer {
    pollster::block_on(engine.chat(messages, options, &mut |_| ControlFlow::Continue(()))).unwrap()
}

fn sampled() -> GenerateOptions {
    GenerateOptions {
        temperature: 1.0,
        top_p: 0.95,
        seed: 5,
        max_tokens: 40,
        ignore_eos: true,
        ..Default::default()
    }
}

fn controls(prompt: &Prompt, tokenizer: &Tokenizer) -> Vec<u32> {
    prompt.input.token_ids.iter().copied().filter(|&id| tokenizer.is_control(id)).collect()
}

/// Text that likes to be markup.
fn hostile() -> impl Strategy<Value = String> {
    let markup = prop::sample::select(vec![
        "<|im_start|>",
        "<|im_end|>",
        "<|IMAGE_PLACEHOLDER|>",
        "<|image@placeholder|>",
        "<|video@placeholder|>",
        "</s>",
        "<think>",
        "</think>",
        "<tool_call>",
        "<|end_of",
        "_sentence|>",
        "<",
        "|>",
        "\u{FDD0}",
        "\u{FDD1}",
        "\u{FDD1}0",
        "<|IMAGE_START|>",
        "{{",
        "{% raw %}",
        " ",
        "\n",
        "é",
        "a",
    ]);
    prop::collection::vec(
        prop_oneof![markup.prop_map(str::to_owned), any::<char>().prop_map(String::from)],
        0..12,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_text_forges_a_control_token(system in hostile(), a in hostile(), b in hostile(), tool in hostile()) {
        for template in BuiltIn::ALL {
            let engine = engine(template);
            let conversation = |system: &str, a: &str, b: &str, tool: &str| {
                let mut parts = vec![Part::Text(a.to_owned()), Part::Text(b.to_owned())];
                if engine.takes_pictures() {
                    parts.insert(1, picture(9));
                }
                let messages =
                    [Message::text(Role::System, system), Message { role: Role::User, parts }, Message::text(Role::Tool, tool)];
                engine.prompt(&messages, &GenerateOptions::default()).unwrap()
            };
            // An empty system text makes one template leave out its frame, which holds no control token.
            let harmless = conversation("s", "a", "b", "t");
            let found = conversation(&system, &a, &b, &tool);
            prop_assert_eq!(controls(&found, engine.tokenizer()), controls(&harmless, engine.tokenizer()));
        }
    }
}

#[test]
fn pictures_become_runs_of_placeholders() {
    let engine = engine(BuiltIn::Vl);
    let Part::Image(patches) = picture(3) else { unreachable!() };
    let n = patches.n_tokens();
    let messages =
        [Message { role: Role::User, parts: vec![Part::Image(patches), Part::Text("?".into()), picture(4)] }];
    let prompt = engine.prompt(&messages, &GenerateOptions::default()).unwrap();
    let placeholder = engine.config().tokens.image_placeholder;
    assert_eq!(prompt.input.token_ids.iter().filter(|&&id| id == placeholder).count(), 2 * n);
    assert_ne!(prompt.input.visuals[0].digest, prompt.input.visuals[1].digest);
    let text = engine.render(&messages, &GenerateOptions::default()).unwrap();
    assert!(text.contains("Picture 1:") && text.contains("?Picture 2:"), "{text}");
    assert!(prompt.notes[0].starts_with("picture 1: resized from 60x90"), "{:?}", prompt.notes);
}

#[test]
fn a_text_model_refuses_pictures() {
    let engine = engine(BuiltIn::Text);
    let message = Message { role: Role::User, parts: vec![picture(0)] };
    let error = engine.prompt(&[message], &GenerateOptions::default()).unwrap_err().to_string();
    assert!(error.contains("reads only text"), "{error}");
}

#[test]
fn passed_over_messages_are_told() {
    let deaf =
        ChatTemplate::new("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}").unwrap();
    let (tokenizer, model) = (tokenizer(), Box::new(Scripted::new(config(&tokenizer(), false))));
    let parts = EngineParts {
        model,
        tokenizer,
        template: deaf,
        preprocessor: Preprocessor::default(),
        clock: Box::new(|| 0.0),
    };
    let prompt = Engine::new(parts)
        .unwrap()
        .prompt(&[user("a"), Message::text(Role::Assistant, "42"), user("b")], &GenerateOptions::default());
    assert!(prompt.unwrap().notes[0].contains("message 2 (Assistant) is not in the prompt"));
}

#[test]
fn prefix_reuse_and_chunks_leave_the_answer_alone() {
    for options in [sampled(), GenerateOptions { temperature: 0.0, repetition_penalty: 1.2, ..sampled() }] {
        let question = Message { role: Role::User, parts: vec![picture(1), Part::Text("What?".into())] };
        let other = Message { role: Role::User, parts: vec![picture(2), Part::Text("What?".into())] };
        let expected = chat(&mut engine(BuiltIn::Vl), std::slice::from_ref(&question), &options);
        assert_eq!(expected.token_ids.len(), 40);
        let mut used = engine(BuiltIn::Vl);
        for chunk in [1, 2, 7, 512] {
            let options = GenerateOptions { prefill_chunk: chunk, ..options.clone() };
            let second = chat(&mut used, std::slice::from_ref(&other), &options);
            assert_ne!(second.token_ids, expected.token_ids);
            for reuse_prefix in [true, false, true] {
                let options = GenerateOptions { reuse_prefix, ..options.clone() };
                let answer = chat(&mut used, std::slice::from_ref(&question), &options);
                assert_eq!(answer.token_ids, expected.token_ids);
                assert_eq!(answer.text, expected.text);
                assert_eq!(answer.cached_tokens == 0, !reuse_prefix);
            }
        }
    }
}

/// Answers that repeat themselves, with every way to choose: guessing ahead must not show but in what it counts.
#[test]
fn guessing_ahead_leaves_the_answer_alone() {
    let text =
        "\none two three four five six seven, one two three four five six eight, one two three four five six";
    let penalised =
        GenerateOptions { repetition_penalty: 1.1, frequency_penalty: 0.1, top_k: 5, ..sampled() };
    let all_told = GenerateOptions { logprobs: Some(3), ..sampled() };
    let greedy = GenerateOptions { temperature: 0.0, ..sampled() };
    for options in [greedy, sampled(), penalised, all_told] {
        for max_tokens in [1, 2, 33, 34, 35, 36, 60] {
            let options = GenerateOptions { max_tokens, ..options.clone() };
            let off = GenerateOptions { speculation: Speculation::Off, ..options.clone() };
            let mut events = [Vec::new(), Vec::new()];
            let [expected, found] = [&off, &options].map(|options| {
                let events = &mut events[usize::from(options.speculation != Speculation::Off)];
                let mut engine = saying(BuiltIn::Text, text);
                let mut listen = |event| {
                    events.push(event);
                    ControlFlow::Continue(())
                };
                let answer = pollster::block_on(engine.chat(&[user("Hi")], options, &mut listen)).unwrap();
                // The next turn builds on a cache from which wrong guesses are gone.
                let turns = [user("Hi"), Message::text(Role::Assistant, &*answer.text), user("And now?")];
                (answer, chat(&mut engine, &turns, options))
            });
            assert_eq!(found.0.token_ids, expected.0.token_ids);
            assert_eq!(events[0], events[1]);
            assert_eq!(found.1.token_ids, expected.1.token_ids);
            assert_eq!(found.1.cached_tokens, expected.1.cached_tokens);
            assert_eq!(expected.0.guesses, Guesses::default());
            let Guesses { drafted, accepted } = found.0.guesses;
            assert!(accepted <= drafted && accepted <= found.0.generated_tokens, "{accepted} of {drafted}");
            assert!(max_tokens < 33 || accepted > 5, "{accepted} of {drafted}");
        }
    }
}

#[test]
fn guesses_end_with_the_context() {
    let prompt = engine(BuiltIn::Text).prompt(&[user("Hi")], &GenerateOptions::default()).unwrap();
    let n_prompt = prompt.input.token_ids.len();
    for limit in n_prompt + 1..n_prompt + 12 {
        let mut config = config(&tokenizer(), false);
        config.text.max_position_embeddings = limit;
        let loop_ids = [7, 8].repeat(8);
        let mut engine = engine_of(BuiltIn::Text, |_| Scripted::new(config).saying(n_prompt, &loop_ids));
        let answer = chat(&mut engine, &[user("Hi")], &sampled());
        assert_eq!(
            (answer.stop_reason, answer.token_ids.len()),
            (StopReason::ContextFull, limit - n_prompt + 1)
        );
    }
}

#[test]
fn another_seed_gives_another_answer() {
    let mut engine = engine(BuiltIn::Text);
    let first = chat(&mut engine, &[user("Hi")], &sampled());
    assert_ne!(
        first.token_ids,
        chat(&mut engine, &[user("Hi")], &GenerateOptions { seed: 6, ..sampled() }).token_ids
    );
}

#[test]
fn the_next_turn_reads_only_what_is_new() {
    // The line break keeps the answer from merging with the space that ends the prompt.
    let mut engine = saying(BuiltIn::Text, "\nHello there<|end_of_sentence|>");
    let options = GenerateOptions::default();
    let first = chat(&mut engine, &[user("Hi")], &options);
    assert_eq!((first.text.as_str(), first.stop_reason), ("\nHello there", StopReason::Eos));
    assert_eq!(first.generated_tokens, first.token_ids.len() + 1);
    let turns = [user("Hi"), Message::text(Role::Assistant, first.text), user("And now?")];
    let second = chat(&mut engine, &turns, &options);
    assert_eq!(second.cached_tokens, first.prompt_tokens + first.token_ids.len());
    // The same again: all but the last token of the prompt is cached.
    let third = chat(&mut engine, &turns, &options);
    assert_eq!(third.cached_tokens, third.prompt_tokens - 1);
    assert_eq!(third.token_ids, second.token_ids);
}

#[test]
fn stop_texts_end_the_answer_and_stay_out_of_it() {
    let mut engine = saying(BuiltIn::Text, "one two three</s>");
    let mut shown = String::new();
    let options = GenerateOptions { stop: vec!["o th".into()], ..Default::default() };
    let mut listen = |event| {
        if let Event::Text(text) = event {
            shown.push_str(&text);
        }
        ControlFlow::Continue(())
    };
    let answer = pollster::block_on(engine.chat(&[user("Hi")], &options, &mut listen)).unwrap();
    assert_eq!((answer.text.as_str(), answer.stop_reason), ("one tw", StopReason::StopString));
    assert_eq!(shown, answer.text);
    let options = GenerateOptions { stop: vec!["threeX".into()], ..Default::default() };
    let answer = chat(&mut engine, &[user("Hi")], &options);
    assert_eq!((answer.text.as_str(), answer.stop_reason), ("one two three", StopReason::Eos));
}

#[test]
fn reasoning_is_told_apart() {
    let mut engine =
        saying(BuiltIn::TextThinking, "hm\n</think>\n\n\n<response>\nYes.\n</response>\n<|im_end|>");
    let answer = chat(&mut engine, &[user("Hi")], &GenerateOptions::default());
    assert_eq!((answer.reasoning.as_deref(), answer.text.as_str()), (Some("hm"), "Yes."));
    let kept = Message::text(Role::Assistant, "secret</think>\n\nYes.");
    let text = engine.render(&[user("Hi"), kept, user("So?")], &GenerateOptions::default()).unwrap();
    assert!(text.contains("<response>\nYes.\n</response>") && !text.contains("secret"), "{text}");
}

#[test]
fn a_cancelled_engine_goes_on() {
    let expected = chat(&mut engine(BuiltIn::Text), &[user("Hi")], &sampled());
    let mut engine = engine(BuiltIn::Text);
    let options = GenerateOptions { prefill_chunk: 2, ..sampled() };
    for n_events in 0..8 {
        let mut left = n_events;
        let mut listen = |_| {
            left -= 1;
            if left < 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let answer = pollster::block_on(engine.chat(&[user("Hi")], &options, &mut listen)).unwrap();
        assert_eq!(answer.stop_reason, StopReason::Cancelled);
        assert!(expected.token_ids.starts_with(&answer.token_ids));
        assert_eq!(chat(&mut engine, &[user("Hi")], &options).token_ids, expected.token_ids);
    }
}

#[test]
fn the_context_has_an_end() {
    let n_prompt = engine(BuiltIn::Text).prompt(&[user("Hi")], &sampled()).unwrap().input.token_ids.len();
    let with_limit = |limit| {
        let mut config = config(&tokenizer(), false);
        config.text.max_position_embeddings = limit;
        engine_of(BuiltIn::Text, |_| Scripted::new(config))
    };
    let answer = chat(&mut with_limit(n_prompt + 3), &[user("Hi")], &sampled());
    assert_eq!((answer.token_ids.len(), answer.stop_reason), (4, StopReason::ContextFull));
    let mut engine = with_limit(n_prompt - 1);
    let error =
        pollster::block_on(engine.chat(&[user("Hi")], &sampled(), &mut |_| ControlFlow::Continue(())));
    let error = error.unwrap_err().to_string();
    assert!(error.contains(&format!("{n_prompt} tokens, but the model takes {}", n_prompt - 1)), "{error}");
}

#[test]
fn timings_come_from_the_clock() {
    let options = GenerateOptions { max_tokens: 3, speculation: Speculation::Off, ..sampled() };
    let answer = chat(&mut engine(BuiltIn::Text), &[user("Hi")], &options);
    // The clock ticks at each look: start, prompt read, first token, end.
    assert_eq!((answer.prefill_ms, answer.ttft_ms, answer.decode_ms), (1.0, 2.0, 1.0));
    let answer =
        chat(&mut engine(BuiltIn::Text), &[user("Hi")], &GenerateOptions { max_tokens: 0, ..options });
    assert_eq!((answer.generated_tokens, answer.stop_reason), (0, StopReason::MaxTokens));
}
