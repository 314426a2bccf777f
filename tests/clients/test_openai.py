"""The official OpenAI client, unchanged."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from conftest import start, stop

HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0, timeout=120)


def ask(client, **wishes):
    wishes = {"model": "ocelli", "messages": HI, "temperature": 0, "max_tokens": 24, **wishes}
    return client.chat.completions.create(**wishes)


def test_chat_and_stream_agree(client):
    whole = ask(client)
    assert whole.choices[0].message.content
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens > 0
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_pictures(client, picture):
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "Describe this picture."},
    ]
    answer = ask(client, messages=[{"role": "user", "content": content}])
    assert answer.choices[0].message.content
    assert answer.usage.prompt_tokens > ask(client).usage.prompt_tokens
    assert any("resized" in note for note in answer.model_extra["ocelli"]["notes"])


def test_seeds_and_probabilities(client):
    hot = {"temperature": 2, "extra_body": {"ignore_eos": True}}
    texts = [ask(client, seed=seed, **hot).choices[0].message.content for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    told = ask(client, logprobs=True, top_logprobs=2).choices[0]
    assert b"".join(bytes(token.bytes) for token in told.logprobs.content).decode() == told.message.content
    assert all(len(token.top_logprobs) == 2 for token in told.logprobs.content)


def test_completions_and_models(client):
    assert client.completions.create(model="ocelli", prompt="This is", max_tokens=4).choices[0].text
    assert [model.id for model in client.models.list()] == ["ocelli"]
    assert client.models.retrieve("ocelli").id == "ocelli"


def test_embeddings(client):
    texts = ["A red circle.", "Two apples."]
    [first, second] = client.embeddings.create(model="ocelli", input=texts).data
    as_floats = client.embeddings.create(model="ocelli", input=texts[0], encoding_format="float")
    assert first.embedding == pytest.approx(as_floats.data[0].embedding)
    assert first.embedding != second.embedding
    assert sum(x * x for x in first.embedding) == pytest.approx(1, abs=1e-4)


def test_errors(client):
    with pytest.raises(openai.NotFoundError, match="is not served here"):
        ask(client, model="gpt-4")
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, messages=[{"role": "user", "content": "word " * 5000}])
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, temperature=-1)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match="response_format"):
        ask(client, response_format={"type": "xml"})


SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


def check(text):
    arguments = json.loads(text)
    assert arguments["city"] in ("Paris", "Rome") and 1 <= arguments["days"] <= 9


def test_tools(client):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
    wishes = {"tools": tools, "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 200}
    choice = ask(client, **wishes).choices[0]
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    assert call.function.name == "weather"
    check(call.function.arguments)
    chunks = [chunk.choices[0].delta for chunk in ask(client, stream=True, **wishes)]
    check("".join(delta.tool_calls[0].function.arguments for delta in chunks if delta.tool_calls))
    result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}
    assert ask(client, messages=[*HI, choice.message, result], tools=tools, tool_choice="none").choices


def test_structured_output(client, picture):
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    seen = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    for seed, messages in enumerate((HI, seen)):
        wishes = {"response_format": form, "messages": messages, "max_tokens": 200, "temperature": 1, "seed": seed}
        whole = ask(client, **wishes).choices[0].message.content
        check(whole)
        chunks = ask(client, stream=True, **wishes)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    with pytest.raises(openai.BadRequestError, match="form"):
        ask(client, response_format={**form, "json_schema": {"name": "x", "schema": {"type": "colour"}}})


def test_responses(client):
    wishes = {"model": "ocelli", "temperature": 0, "max_output_tokens": 24}
    first = client.responses.create(input="Hi", instructions="Be brief.", **wishes)
    assert first.output_text and first.status in ("completed", "incomplete")
    second = client.responses.create(input="So?", previous_response_id=first.id, **wishes)
    assert second.usage.input_tokens > first.usage.output_tokens
    assert client.responses.retrieve(second.id).output_text == second.output_text
    client.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(input="x", previous_response_id=second.id, **wishes)
    with client.responses.stream(input="Hi", instructions="Be brief.", **wishes) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert text == first.output_text == stream.get_final_response().output_text
    tool = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}
    wishes["max_output_tokens"] = 200
    asked = client.responses.create(input="Where?", tools=[tool], tool_choice="required", parallel_tool_calls=False, **wishes)
    [call] = asked.output
    check(call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}
    told = client.responses.create(
        input=[result], previous_response_id=asked.id, tools=[tool], tool_choice="none", **wishes
    )
    assert told.output_text
    form = {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}}
    check(client.responses.create(input="Where?", text=form, **wishes).output_text)


def test_cancelling_frees_the_slot():
    process, address = start("--slots", "1", "--queue", "0")
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=120)
    endless = {"ignore_eos": True}
    stream = ask(client, stream=True, max_tokens=100_000, extra_body=endless)
    next(iter(stream))
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    assert int(caught.value.response.headers["retry-after"]) >= 1
    stream.close()
    # Retries are the client's own, by the time that the server names.
    assert ask(client.with_options(max_retries=10)).choices[0].message.content
    stop(process)


def test_many_at_once(client):
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda seed: ask(client, seed=seed, temperature=1), range(32)))
    alone = [ask(client, seed=seed, temperature=1) for seed in range(32)]
    texts = [[answer.choices[0].message.content for answer in run] for run in (answers, alone)]
    assert texts[0] == texts[1]


def test_a_key_is_needed_from_outside(tmp_path):
    process, address = start(listen="0.0.0.0:0", XDG_CONFIG_HOME=str(tmp_path))
    key = process.stderr.readline().split()[-1]
    assert key.startswith("sk-ocelli-")
    assert key not in (tmp_path / "ocelli" / "server-key").read_text()
    with pytest.raises(openai.AuthenticationError):
        ask(openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0))
    assert ask(openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0)).choices
    stop(process)
