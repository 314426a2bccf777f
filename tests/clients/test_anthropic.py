"""The official Anthropic client, unchanged."""

import base64
import json

import anthropic
import pytest

HI = [{"role": "user", "content": "Hi"}]
# The client has no name for it any more, but servers do.
GREEDY = {"temperature": 0}


@pytest.fixture(scope="module")
def client(server):
    return anthropic.Anthropic(base_url=server, api_key="none", max_retries=0, timeout=120)


def ask(client, **wishes):
    wishes = {"model": "ocelli", "messages": HI, "max_tokens": 24, "extra_body": GREEDY, **wishes}
    return client.messages.create(**wishes)


def test_chat_and_stream_agree(client):
    whole = ask(client, system="Be brief.")
    assert whole.content[0].text and whole.stop_reason in ("end_turn", "max_tokens")
    with client.messages.stream(
        model="ocelli", messages=HI, max_tokens=24, system="Be brief.", extra_body=GREEDY
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.usage.cache_read_input_tokens > 0
    counted = client.messages.count_tokens(model="ocelli", messages=HI, system="Be brief.")
    assert counted.input_tokens == whole.usage.input_tokens + whole.usage.cache_read_input_tokens


def test_pictures(client, picture):
    data = base64.b64encode(picture).decode()
    content = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
        {"type": "text", "text": "Describe this picture."},
    ]
    assert ask(client, messages=[{"role": "user", "content": content}]).content[0].text


def test_stop_sequences(client):
    text = ask(client).content[0].text
    stop = text[len(text) // 2]
    stopped = ask(client, stop_sequences=[stop])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", stop)
    assert stopped.content[0].text == text.split(stop)[0]


def test_errors(client):
    with pytest.raises(anthropic.NotFoundError):
        ask(client, model="claude")
    with pytest.raises(anthropic.BadRequestError, match="temperature: it is 3"):
        ask(client, extra_body={"temperature": 3})
    with pytest.raises(anthropic.BadRequestError, match="more than"):
        ask(client, messages=[{"role": "user", "content": "word " * 5000}])
    with pytest.raises(anthropic.BadRequestError, match="tool_choice"):
        ask(client, tool_choice={"type": "tool", "name": "missing"})


def test_tools(client):
    schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
    tool = {"name": "weather", "input_schema": {**schema, "additionalProperties": False}}
    choice = {"type": "any", "disable_parallel_tool_use": True}
    answer = ask(client, tools=[tool], tool_choice=choice, max_tokens=200)
    assert answer.stop_reason == "tool_use"
    [call] = answer.content
    assert call.name == "weather" and call.input["city"] in ("Paris", "Rome")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Sunny."}
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer.content}]
    ask(client, messages=[*turns, {"role": "user", "content": [result]}], tools=[tool], tool_choice={"type": "none"})
    with client.messages.stream(
        model="ocelli", max_tokens=200, messages=[{"role": "user", "content": "Hi"}], tools=[tool], tool_choice=choice
    ) as stream:
        assert stream.get_final_message().content[0].input["city"] in ("Paris", "Rome")


def test_structured_output(client):
    schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
    form = {"format": {"type": "json_schema", "schema": {**schema, "additionalProperties": False}}}
    answer = ask(client, output_config=form, max_tokens=200)
    assert json.loads(answer.content[0].text)["city"] in ("Paris", "Rome")
