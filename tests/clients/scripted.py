"""A model that says what it is told to say, behind an OpenAI-compatible server."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def call(name, **arguments):
    """A reply that calls a tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"tool_calls": [{"index": 0, "id": "c", "function": function}]}


class Script:
    """Gives these replies, texts or calls, one a request, and keeps what it was asked."""

    def __init__(self, *replies):
        self.requests = []
        waiting = list(replies)
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                requests.append(json.loads(body))
                reply = waiting.pop(0)
                delta = {"content": reply} if isinstance(reply, str) else reply
                event = {"choices": [{"delta": delta, "finish_reason": "stop"}]}
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                self.wfile.write(f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n".encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def results(self):
        """What tools gave, as the last request tells it."""
        return [message["content"] for message in self.requests[-1]["messages"] if message["role"] == "tool"]

    def tools(self):
        """The names of the tools that were offered."""
        return [tool["function"]["name"] for tool in self.requests[0]["tools"]]
