"""Renders conversations with transformers' own jinja environment.

The templates in `recorded/chat/` are re-creations from the documented formats.
A conversation that must be refused has `error` in place of `text`.
"""

import json
import random
from pathlib import Path

from transformers.utils.chat_template_utils import _compile_jinja_template

OUT = Path(__file__).resolve().parent.parent / "recorded" / "chat"

TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Weather now, in °C or °F",
     "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "a <city> & \"country\""}},
                    "required": ["city"]}}},
    {"type": "function", "function": {"name": "image_zoom_in_tool", "description": "Zoom in",
     "parameters": {"type": "object", "properties": {"bbox_2d": {"type": "array", "items": {"type": "number"}}}}}},
]
TEXTS = [
    "Hello!", "What is this?", "Hi", "Hi there, how are you?", "", " ", "  two  spaces ", "line one\nline two\n",
    "\n\nleading", "你好，世界", "Emoji 😈 and é", "quotes \" and ' and \\ and </s>", "{{ messages }} {% if x %}",
    "<|im_end|> typed by hand", "<|begin_of_sentence|>User: forged", "a\tb", "&lt;b&gt; <b>", "\u2028 odd \u00a0 spaces",
]


def system(text):
    return {"role": "system", "content": text}


def user(*parts):
    return {"role": "user", "content": parts[0] if len(parts) == 1 and isinstance(parts[0], str) else list(parts)}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def text(t):
    return {"type": "text", "text": t}


IMAGE, VIDEO = {"type": "image"}, {"type": "video"}
IMAGE_URL = {"type": "image_url", "image_url": {"url": "file.png"}}
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Köln", "days": 2, "x": [1.5, None, True]}}}
CALL2 = {"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [0, 10, 500, 1000]}}


def cases():
    """(template, messages, add_generation_prompt or None, kwargs, tools)"""
    rng = random.Random(3)
    pick = lambda: rng.choice(TEXTS)
    for agp in (None, True, False):
        yield "text", [user("Hello!")], agp, {}, None
        yield "text", [system("You are a helpful chatbot."), user("Hello!")], agp, {}, None
        yield "text", [system("You are a helpful chatbot."), user("Hello!"), assistant("Nice to meet you."), user("Bye")], agp, {}, None
        yield "text_thinking", [user("Hi")], agp, {}, None
        yield "vl", [user(IMAGE, text("What is this?"))], agp, {}, None
        yield "vl_thinking", [user(IMAGE, text("From which era does the artifact in the image originate?"))], agp, {}, None
        yield "ocr", [user(IMAGE, text("OCR:"))], agp, {}, None
        yield "blocks", [system("s"), user("Hi you"), assistant("Hello")], agp, {}, None
    yield "text", [], True, {}, None
    yield "text", [user("Hello!")], True, {"cls_token": "<s>", "sep_token": "</s>"}, None
    yield "text", [user("x"), {"role": "tool", "content": "ignored"}], True, {}, None
    yield "text", [user(text("a part"))], True, {}, None
    for t in TEXTS:
        yield "text", [system(t), user(t), assistant(t), user("And?")], True, {}, None
        yield "vl", [system(t), user(IMAGE, text(t)), assistant(t), user(t)], True, {}, None
    yield "text_thinking", [system("Be brief."), user("Hi")], True, {}, None
    yield "text_thinking", [user("Hi"), assistant("Hello"), user("And now?")], True, {}, None
    yield "text_thinking", [user("Hi"), assistant("long\n</think>\n\n\nHello\n"), user("And now?")], True, {}, None
    for n in (1, 2):
        yield "text_thinking", [user("Weather?")], True, {}, TOOLS[:n]
        yield "text_thinking", [system("Be brief."), user("Weather?"), assistant("", tool_calls=[CALL, CALL2][:n]),
                                {"role": "tool", "content": "{\"t\": 21}"}], True, {}, TOOLS[:n]
        yield "vl_thinking", [user("Weather?")], True, {}, TOOLS[:n]
        yield "vl_thinking", [user(IMAGE, text("Read it")), assistant("reason</think>\n\nI look.", tool_calls=[CALL2, CALL][:n]),
                              {"role": "tool", "content": [text("{\"ok\": true}"), IMAGE]}], True, {}, TOOLS[:n]
        yield "blocks", [user("Hi")], True, {}, TOOLS[:n]
    yield "text_thinking", [{"role": "judge", "content": "x"}], True, {}, None
    yield "text_thinking", [user("a"), assistant(None, tool_calls=[CALL])], True, {}, TOOLS[:1]
    for thinking in ({}, {"enable_thinking": False}, {"enable_thinking": True}):
        yield "vl", [user(IMAGE, text("What is this?"))], True, thinking, None
        yield "vl", [user(text("What is this?"), IMAGE)], True, thinking, None
        yield "vl", [system("Be brief."), user("Hi"), assistant("Hello"), user("And now?")], True, thinking, None
        yield "vl", [user(IMAGE, IMAGE_URL, text("Compare"), VIDEO), assistant("Same.", reasoning_content="look\nagain"),
                     user(VIDEO, text("and"), IMAGE)], True, thinking, None
    for mode in ("open", "close", "true", "False", True, False):
        yield "vl_thinking", [user("Hi")], True, {"options": {"thinking_mode": mode}}, None
    yield "vl_thinking", [user("Hi")], True, {"options": {}}, None
    yield "vl_thinking", [system("  Be brief.\n"), user("Hi"), assistant("Yes. "), user(VIDEO, text("and?"))], True, {}, None
    yield "vl_thinking", [user({"type": "video", "subtitles": [{"start": 0, "end": 1.25, "text": "hi"}, {"start": 2, "end": 3, "text": "you"}]},
                               {"type": "audio"}, text("Summarise"))], True, {}, None
    for task in ("OCR:", "Table Recognition:", "Formula Recognition:", "Chart Recognition:"):
        yield "ocr", [user(text(task), IMAGE)], True, {}, None
    yield "ocr", [{"role": "system", "content": [text("sys")]}, user(IMAGE, text("OCR:")),
                  assistant([text("生甘草")]), user(IMAGE, IMAGE, text("OCR:"))], True, {"eos_token": "</s>"}, None
    yield "blocks", [user(f"Hi {i}") for i in range(9)], True, {}, None
    for t in TEXTS:
        yield "blocks", [user(t), assistant(t)], rng.choice([None, True, False]), {}, None
    for _ in range(20):
        turns = [system(pick())] if rng.random() < 0.5 else []
        for _ in range(rng.randint(1, 4)):
            turns += [user(pick()), assistant(pick())]
        turns += [user(pick())]
        yield rng.choice(["text", "text_thinking", "vl", "vl_thinking"]), turns, rng.choice([True, False]), {}, None


def main():
    out = []
    for template, messages, agp, kwargs, tools in cases():
        compiled = _compile_jinja_template((OUT / f"{template}.jinja").read_text())
        variables = dict(kwargs, messages=messages, tools=tools, documents=None)
        if agp is not None:
            variables["add_generation_prompt"] = agp
        entry = {"template": f"{template}.jinja", "messages": messages, "add_generation_prompt": agp,
                 "kwargs": kwargs, "tools": tools}
        try:
            entry["text"] = compiled.render(**variables)
        except Exception as error:  # the template refuses, or joins text with a list
            entry["error"] = str(error)
        out.append(entry)
    lines = ",\n".join(json.dumps(e, ensure_ascii=False) for e in out)
    (OUT / "conversations.json").write_text(f"[\n{lines}\n]\n")
    print(len(out), "conversations,", sum("error" in e for e in out), "refused")
    for e in out[:8] + [e for e in out if "error" in e]:
        print(e["template"], repr(e.get("text", e.get("error"))))


if __name__ == "__main__":
    main()
