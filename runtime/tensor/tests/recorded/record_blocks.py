"""Writes blocks.safetensors: random blocks of every GGUF format and their values.

    pip install gguf==0.19.0 numpy safetensors
    python record_blocks.py

Bytes are drawn; only the half-precision factors are chosen, so that all values are finite.
They include a subnormal, a negative and a zero factor.
"""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize
from safetensors.numpy import save_file

BYTES = {"Q8_0": 34, "Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q5_1": 24, "Q4_K": 144, "Q5_K": 176, "Q6_K": 210}
FACTORS = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}

rng = np.random.default_rng(7)
arrays = {}
for name, size in BYTES.items():
    n = 3 if "K" in name else 4
    blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
    factors = np.array([0.0371, 3e-7, -0.25, 0.0], dtype=np.float16)[:n]
    for i, at in enumerate(FACTORS[name]):
        blocks[:, at:at + 2] = np.roll(factors, i).view(np.uint8).reshape(n, 2)
    values = dequantize(blocks.reshape(1, -1), T[name]).astype(np.float32)
    assert np.isfinite(values).all()
    arrays[f"{name}.blocks"] = blocks
    arrays[f"{name}.values"] = values.reshape(n, -1)
save_file(arrays, Path(__file__).parent / "blocks.safetensors")
