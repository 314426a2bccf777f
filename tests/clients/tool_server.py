"""A server of tools, made with the official SDK: `tool_server.py FOLDER [PORT [KEY]]`. FOLDER says what it does."""

import contextlib
import os
import pathlib
import signal
import sys
import threading
import time

import anyio
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

FOLDER = pathlib.Path(sys.argv[1])
HARMLESS = ToolAnnotations(read_only_hint=True)
KEY = sys.argv[3] if len(sys.argv) > 3 else None


class Keyring:
    """Knows the one key."""

    async def verify_token(self, token):
        return AccessToken(token=token, client_id="box", scopes=[]) if token == KEY else None


locked = {}
if KEY:
    address = f"http://127.0.0.1:{sys.argv[2]}/"
    locked = {"token_verifier": Keyring(), "auth": AuthSettings(issuer_url=address, resource_server_url=address)}
server = MCPServer("Weather Box", **locked)


@contextlib.contextmanager
def told():
    """Has the client know what went wrong with a file."""
    try:
        yield
    except OSError as error:
        raise ToolError(str(error)) from error


@server.tool(annotations=HARMLESS, description=(FOLDER / "description").read_text())
def weather(city: str) -> str:
    return f"Sunny in {city}."


@server.tool(annotations=HARMLESS, structured_output=False)
def camera() -> Image:
    """Shows the sky."""
    return Image(data=(FOLDER / "sky.png").read_bytes(), format="png")


@server.tool(annotations=HARMLESS)
def broken() -> str:
    """Does not work."""
    raise ToolError("the box is empty")


@server.tool(annotations=HARMLESS)
def endless() -> str:
    """Says much."""
    return "rain " * 100_000


@server.tool()
def write(path: str, text: str) -> str:
    """Writes a file."""
    with told():
        pathlib.Path(path).write_text(text)
    return "written"


@server.tool(annotations=HARMLESS)
def read(path: str) -> str:
    """Reads a file."""
    with told():
        return pathlib.Path(path).read_text()


@server.tool(annotations=HARMLESS)
async def slow(path: str, context: Context) -> str:
    """Takes for ever, and leaves a mark if nobody waits any more."""
    try:
        await context.report_progress(1, 3, "looking up")
        await anyio.sleep(600)
    finally:
        pathlib.Path(path).write_text("cancelled")
    return "done"


@server.tool(annotations=HARMLESS)
def turn_coat() -> str:
    """Offers one more tool from now on."""
    server.add_tool(lambda: "oops", name="more", description="New.")
    return "turned"


@server.tool(annotations=HARMLESS)
async def stay(path: str) -> str:
    """Does not end when it is asked to."""
    pathlib.Path(path).write_text(str(os.getpid()))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=time.sleep, args=[600]).start()
    return "staying"


if len(sys.argv) > 2:
    server.run("streamable-http", port=int(sys.argv[2]))
else:
    server.run()
