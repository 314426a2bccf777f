"""Records what the head that predicts further tokens says in the case `moe`.

transformers leaves these tensors out, so this is the definition of the training code in plain numpy, in f64: over
the residual stream before the final norm (which transformers recorded) and the embedding of the token after each
row, one dense block with its own attention, then the decoder's norm and head.

`mtp.safetensors`: `logits` [n, vocab] f32, whose row t is about the token at t + 2; its last row embeds the first
greedy token. `draft` [4] i64: the best token there, and those that follow if the head's own rows stand for the
decoder's.
"""
import json
import pathlib

import numpy as np
from safetensors.numpy import load_file, save_file

CASE = pathlib.Path(__file__).parent.parent / "recorded" / "moe"


def weights():
    """All tensors, bf16 widened, without torch."""
    path = CASE / "model.safetensors"
    raw = path.read_bytes()
    n = int.from_bytes(raw[:8], "little")
    out = {}
    for name, info in json.loads(raw[8:8 + n]).items():
        if name == "__metadata__":
            continue
        a, b = info["data_offsets"]
        data = raw[8 + n + a:8 + n + b]
        if info["dtype"] == "BF16":
            values = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(data, np.float32)
        out[name] = values.astype(np.float64).reshape(info["shape"])
    return out


def rms_norm(x, w, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


def silu(x):
    return x / (1 + np.exp(-x))


class Head:
    def __init__(self, w, config):
        self.w, self.c = w, config
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.dim = config["hidden_size"] // self.heads
        self.eps, self.keys, self.values = config["rms_norm_eps"], [], []

    def rope(self, x, position):
        """x [heads, dim]; pairs (2i, 2i + 1)."""
        angle = position * self.c["rope_theta"] ** (-np.arange(0, self.dim, 2) / self.dim)
        even, odd = x[:, 0::2], x[:, 1::2]
        out = np.empty_like(x)
        out[:, 0::2] = even * np.cos(angle) - odd * np.sin(angle)
        out[:, 1::2] = odd * np.cos(angle) + even * np.sin(angle)
        return out

    def row(self, hidden, token, position):
        """The block's output for one row, which is remembered."""
        w, p = self.w, "model.mtp_block.0."
        e = rms_norm(w["model.embed_tokens.weight"][token], w["model.mtp_emb_norm.0.weight"], self.eps)
        h = rms_norm(hidden, w["model.mtp_hidden_norm.0.weight"], self.eps)
        x = w["model.mtp_linear_proj.0.weight"] @ np.concatenate([e, h])
        n = rms_norm(x, w[p + "input_layernorm.weight"], self.eps)
        q, k, v = (w[p + f"self_attn.{name}_proj.weight"] @ n for name in "qkv")
        q = self.rope(q.reshape(self.heads, self.dim), position)
        self.keys.append(self.rope(k.reshape(self.kv_heads, self.dim), position))
        self.values.append(v.reshape(self.kv_heads, self.dim))
        out = []
        for head in range(self.heads):
            kv = head * self.kv_heads // self.heads
            scores = np.array([q[head] @ k[kv] for k in self.keys]) / np.sqrt(self.dim)
            probs = np.exp(scores - scores.max())
            out.append((probs / probs.sum()) @ np.array([v[kv] for v in self.values]))
        x = x + w[p + "self_attn.o_proj.weight"] @ np.concatenate(out)
        n = rms_norm(x, w[p + "post_attention_layernorm.weight"], self.eps)
        inner = silu(w[p + "mlp.gate_proj.weight"] @ n) * (w[p + "mlp.up_proj.weight"] @ n)
        return x + w[p + "mlp.down_proj.weight"] @ inner

    def logits(self, x):
        return self.w["model.embed_tokens.weight"] @ rms_norm(x, self.w["model.norm.weight"], self.eps)


def main():
    config = json.loads((CASE / "config.json").read_text())
    expected = load_file(CASE / "expected.safetensors")
    ids = load_file(CASE / "input.safetensors")["input_ids"][0].tolist() + [int(expected["greedy_ids"][0])]
    hidden = expected[f"hidden.layer.{config['num_hidden_layers'] - 1}"].astype(np.float64)
    head = Head(weights(), config)
    rows = [head.row(hidden[t], ids[t + 1], t + 1) for t in range(len(hidden))]
    logits = np.array([head.logits(x) for x in rows])
    draft, x = [int(logits[-1].argmax())], rows[-1]
    for i in range(3):
        x = head.row(x, draft[-1], len(ids) + i)
        draft.append(int(head.logits(x).argmax()))
    save_file({"logits": logits.astype(np.float32), "draft": np.array(draft, np.int64)}, CASE / "mtp.safetensors")
    print("draft", draft)


if __name__ == "__main__":
    main()
