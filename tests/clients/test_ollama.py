"""The official Ollama client, unchanged."""

import json

import ollama
import pytest

HI = [{"role": "user", "content": "Hi"}]
GREEDY = {"temperature": 0, "num_predict": 24}


@pytest.fixture(scope="module")
def client(server):
    return ollama.Client(host=server, timeout=120)


def test_chat_and_stream_agree(client):
    whole = client.chat("ocelli", HI, options=GREEDY)
    assert whole.message.content and whole.done
    parts = list(client.chat("ocelli", HI, options=GREEDY, stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == whole.eval_count
    assert parts[-1].done_reason == whole.done_reason


def test_generate(client):
    whole = client.generate("ocelli", "Hi", options=GREEDY)
    assert whole.response == client.chat("ocelli", HI, options=GREEDY).message.content
    assert "".join(part.response for part in client.generate("ocelli", "Hi", options=GREEDY, stream=True)) == whole.response


def test_pictures(client, picture):
    message = {"role": "user", "content": "Describe this picture.", "images": [picture]}
    answer = client.chat("ocelli:latest", [message], options=GREEDY)
    assert answer.message.content
    assert answer.prompt_eval_count > client.chat("ocelli", HI, options=GREEDY).prompt_eval_count


def test_models(client):
    assert [model.model for model in client.list().models] == ["ocelli"]
    shown = client.show("ocelli")
    assert "vision" in shown.capabilities
    assert shown.modelinfo["general.parameter_count"] > 1_000_000
    assert [model.model for model in client.ps().models] == ["ocelli"]


def test_errors(client):
    with pytest.raises(ollama.ResponseError, match="is not served here") as caught:
        client.chat("llama3", HI)
    assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="options.temperature"):
        client.chat("ocelli", HI, options={"temperature": -1})


def test_tools_and_formats(client):
    schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
    schema["additionalProperties"] = False
    answer = client.chat("ocelli", HI, format=schema)
    assert json.loads(answer.message.content)["city"] in ("Paris", "Rome")
    tool = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": schema}}
    turns = [*HI, {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Rome"}}}]}]
    answer = client.chat("ocelli", [*turns, {"role": "tool", "tool_name": "weather", "content": "Sunny."}], tools=[tool], options=GREEDY)
    assert answer.done
