"""Starts `ocelli serve` on the model inside, once for all tests."""

import os
import pathlib
import signal
import subprocess

import pytest


IMAGES = pathlib.Path(__file__).parent / "../../assets/images"


def start(*args, listen="127.0.0.1:0", **environment):
    """A running server and its address."""
    command = [os.environ["OCELLI"], "serve", "--listen", listen, *args]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    address = process.stdout.readline().strip()
    assert address.startswith("http://"), process.communicate()
    return process, address


def stop(process):
    """Ends a server as Ctrl-C does."""
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0, process.communicate()


@pytest.fixture(scope="session")
def server():
    process, address = start()
    yield address
    stop(process)


@pytest.fixture(scope="session")
def picture():
    return (IMAGES / "two-apples.png").read_bytes()
