"""The official SDK's client against `ocelli mcp`, and against `/mcp` of `ocelli serve`."""

import base64
import os
import re
import time
import urllib.error
import urllib.request

import anyio
import pytest
from conftest import IMAGES, start, stop
from mcp import Client, MCPError, StdioServerParameters


@pytest.fixture(scope="module", params=["stdio", "http"])
def server(request):
    """What a client connects to."""
    if request.param == "stdio":
        yield StdioServerParameters(command=os.environ["OCELLI"], args=["mcp", "--quiet", "--grant", str(IMAGES)])
    else:
        process, address = start("--grant", str(IMAGES))
        yield f"{address}/mcp"
        stop(process)


def with_client(server, use, mode="auto"):
    async def main():
        with anyio.fail_after(120):
            async with Client(server, mode=mode) as client:
                await use(client)

    anyio.run(main)


def text(result, is_error=False):
    assert bool(result.is_error) == is_error, result
    return result.content[0].text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_pictures_are_captioned(server, mode, picture):
    async def use(client):
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == ["caption", "ask"]
        assert all(tool.annotations.read_only_hint for tool in tools)
        data = base64.b64encode(picture).decode()
        caption = text(await client.call_tool("caption", {"image": data}))
        assert "apple" in caption
        assert text(await client.call_tool("caption", {"file": "images/two-apples.png"})) == caption
        assert text(await client.call_tool("caption", {"image": f"data:image/png;base64,{data}"})) == caption
        question = {"question": "What is this?", "images": [data], "files": ["images/two-apples.png"]}
        assert text(await client.call_tool("ask", question))
        assert text(await client.call_tool("ask", {"question": "Hi", "max_tokens": 3}))

    with_client(server, use, mode=mode)


def test_errors_are_told(server, picture):
    data = base64.b64encode(picture).decode()

    async def use(client):
        for tool, arguments, expected in [
            ("caption", {}, "give one picture"),
            ("caption", {"image": data, "file": "images/two-apples.png"}, "give one picture"),
            ("caption", {"image": "?"}, "not base64"),
            ("caption", {"image": base64.b64encode(b"no picture").decode()}, "picture"),
            ("caption", {"file": "images/none.png"}, "none.png"),
            ("caption", {"file": "images/../README.md"}, "images/../README.md"),
            ("caption", {"file": "/etc/passwd"}, "not in a granted folder"),
            ("caption", {"image": data, "max_tokens": 0}, "max_tokens"),
            ("caption", {"image": data, "max_tokens": -1}, "arguments"),
            ("ask", {}, "question"),
            ("ask", {"question": " "}, "question"),
            ("ask", {"question": "x", "colour": 1}, "colour"),
            ("ask", {"question": "x", "images": [data] * 17}, "the limit is 16"),
        ]:
            error = text(await client.call_tool(tool, arguments), is_error=True)
            assert expected in error, (arguments, error)
        with pytest.raises(MCPError, match="no tool `shell`"):
            await client.call_tool("shell", {})
        # It still answers.
        assert text(await client.call_tool("caption", {"image": data}))

    with_client(server, use)


def test_progress_is_told_and_a_question_is_given_up(server, picture):
    data = base64.b64encode(picture).decode()

    async def use(client):
        told = []

        async def on_progress(progress, total, message):
            told.append(progress)

        await client.call_tool("caption", {"image": data}, progress_callback=on_progress)
        assert told and told == sorted(set(told))
        # The model answers one question after the other, so one that nobody waits for would keep the next waiting.
        with anyio.move_on_after(0.2) as scope:
            await client.call_tool("ask", {"question": "Go on.", "images": [data] * 16, "max_tokens": 4096})
        assert text(await client.call_tool("caption", {"image": data}))
        # A very fast machine has answered before.
        if scope.cancelled_caught and isinstance(server, str):
            await anyio.to_thread.run_sync(wait_until_cancelled, server)

    with_client(server, use)


def wait_until_cancelled(server):
    """Returns when the server has counted a request whose client went away."""
    deadline = time.monotonic() + 60
    while True:
        with urllib.request.urlopen(server.replace("/mcp", "/metrics")) as response:
            counted = re.search(r"^\w*cancelled_total (\d+)$", response.read().decode(), re.MULTILINE)
        if int(counted[1]) > 0:
            return
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_checks_of_the_server_stand_before_it():
    process, address = start()
    for header, value in [("Host", "evil.example"), ("Origin", "https://evil.example")]:
        request = urllib.request.Request(f"{address}/mcp", b"{}", {"Content-Type": "application/json", header: value})
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(request)
        assert error.value.code == 403
    stop(process)
