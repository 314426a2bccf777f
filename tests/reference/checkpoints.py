"""Tiny random checkpoints in the published (`-PT`) tensor names.

Every value is exactly representable in bf16 (or f16 where a case says so), so
files stay small while a computation in f32 is reproducible to rounding. The
router and its correction bias are f32, as in the published files.

Shapes come from this file alone, not from transformers: loading the result with
`from_pretrained` is therefore also a check of the tensor names.
"""

import numpy as np
import torch


class Init:
    """Draws weights large enough that a swapped row or a wrong pair shows."""

    def __init__(self, seed, dtype=torch.bfloat16):
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype

    def _round(self, x):
        return torch.from_numpy(x.astype(np.float32)).to(self.dtype)

    def linear(self, out, inp, gain=1.0):
        return self._round(self.rng.standard_normal((out, inp)) * gain / np.sqrt(inp))

    def vector(self, n, std=0.3):
        return self._round(self.rng.standard_normal(n) * std)

    def norm(self, n):
        return self._round(self.rng.uniform(0.5, 1.5, n))

    def embedding(self, rows, cols, std=0.45):
        return self._round(self.rng.standard_normal((rows, cols)) * std)

    def f32(self, shape, std):
        """Router weights: still multiples of 2^-12, so that no file rounds them."""
        x = self.rng.standard_normal(shape) * std
        return torch.from_numpy((np.round(x * 4096) / 4096).astype(np.float32))


def _swiglu(init, w, prefix, hidden, width, bias):
    for name, out, inp in (("gate", width, hidden), ("up", width, hidden), ("down", hidden, width)):
        w[f"{prefix}.{name}_proj.weight"] = init.linear(out, inp, 1.3)
        if bias:
            w[f"{prefix}.{name}_proj.bias"] = init.vector(out)


def head_dim(cfg):
    return cfg.get("head_dim") or cfg["hidden_size"] // cfg["num_attention_heads"]


def _first(x):
    return x[0] if isinstance(x, list) else x


def is_moe_layer(cfg, layer):
    """The layer rule of the published configs; lists are (text, vision)."""
    if "moe_num_experts" not in cfg:
        return False
    as_list = lambda x: x if isinstance(x, list) else [x]
    start = min(as_list(cfg["moe_layer_start_index"]))
    end = max(as_list(cfg["moe_layer_end_index"]))
    if end == -1:
        end = cfg["num_hidden_layers"] - 1
    return (layer + 1) % cfg["moe_layer_interval"] == 0 and start <= layer <= end


def text_weights(cfg, init):
    """The language model; with list-valued `moe_*` keys the VL two-bank form."""
    h, hd = cfg["hidden_size"], head_dim(cfg)
    q, kv = cfg["num_attention_heads"] * hd, cfg["num_key_value_heads"] * hd
    bias = cfg["use_bias"]
    vl = isinstance(cfg.get("moe_num_experts"), list)
    w = {"model.embed_tokens.weight": init.embedding(cfg["vocab_size"], h)}
    for layer in range(cfg["num_hidden_layers"]):
        p = f"model.layers.{layer}"
        w[f"{p}.input_layernorm.weight"] = init.norm(h)
        for name, out, inp, gain in (("q", q, h, 1.5), ("k", kv, h, 1.5), ("v", kv, h, 1.2), ("o", h, q, 1.2)):
            w[f"{p}.self_attn.{name}_proj.weight"] = init.linear(out, inp, gain)
            if bias:
                w[f"{p}.self_attn.{name}_proj.bias"] = init.vector(out)
        w[f"{p}.post_attention_layernorm.weight"] = init.norm(h)
        if not is_moe_layer(cfg, layer):
            _swiglu(init, w, f"{p}.mlp", h, cfg["intermediate_size"], bias)
            continue
        n = _first(cfg["moe_num_experts"])
        widths = cfg["moe_intermediate_size"] if vl else [cfg["moe_intermediate_size"]]
        if vl:
            w[f"{p}.mlp.gate.weight"] = init.f32((h, n), 1.5 / np.sqrt(h))
            w[f"{p}.mlp.gate.weight_1"] = init.f32((h, n), 1.5 / np.sqrt(h))
        else:
            w[f"{p}.mlp.gate.weight"] = init.f32((n, h), 1.5 / np.sqrt(h))
        w[f"{p}.mlp.moe_statics.e_score_correction_bias"] = init.f32((len(widths), n), 0.1)
        for bank, width in enumerate(widths):
            for e in range(n):
                _swiglu(init, w, f"{p}.mlp.experts.{bank * n + e}", h, width, False)
        if cfg["moe_num_shared_experts"]:
            width = widths[0] * cfg["moe_num_shared_experts"]
            _swiglu(init, w, f"{p}.mlp.shared_experts", h, width, bias)
    w["model.norm.weight"] = init.norm(h)
    if not cfg["tie_word_embeddings"]:
        w["lm_head.weight"] = init.linear(cfg["vocab_size"], h, 3.0)
        if bias and "moe_num_experts" in cfg and not vl:
            w["lm_head.bias"] = init.vector(cfg["vocab_size"], 1.0)
    if cfg.get("num_nextn_predict_layers"):
        w["model.mtp_emb_norm.0.weight"] = init.norm(h)
        w["model.mtp_hidden_norm.0.weight"] = init.norm(h)
        w["model.mtp_linear_proj.0.weight"] = init.linear(h, 2 * h)
        p = "model.mtp_block.0"
        w[f"{p}.input_layernorm.weight"] = init.norm(h)
        w[f"{p}.post_attention_layernorm.weight"] = init.norm(h)
        for name, out, inp in (("q", q, h), ("k", kv, h), ("v", kv, h), ("o", h, q)):
            w[f"{p}.self_attn.{name}_proj.weight"] = init.linear(out, inp)
        _swiglu(init, w, f"{p}.mlp", h, cfg["intermediate_size"], False)
    return w


def vision_weights(cfg, init):
    """The tower (`vision_model.*`) and the resampler."""
    v = cfg["vision_config"]
    d, h = v["embed_dim"], cfg["hidden_size"]
    w = {}

    def linear(name, out, inp, gain=1.0):
        w[f"{name}.weight"] = init.linear(out, inp, gain)
        w[f"{name}.bias"] = init.vector(out)

    def layer_norm(name, n):
        w[f"{name}.weight"] = init.norm(n)
        w[f"{name}.bias"] = init.vector(n)

    w["vision_model.patch_embed.proj.weight"] = init.linear(d, 3 * v["patch_size"] ** 2, 1.2)
    for b in range(v["depth"]):
        p = f"vision_model.blocks.{b}"
        layer_norm(f"{p}.norm1", d)
        layer_norm(f"{p}.norm2", d)
        linear(f"{p}.attn.qkv", 3 * d, d, 1.5)
        linear(f"{p}.attn.proj", d, d, 1.2)
        linear(f"{p}.mlp.fc1", int(d * v["mlp_ratio"]), d, 1.3)
        linear(f"{p}.mlp.fc2", d, int(d * v["mlp_ratio"]), 1.3)
    layer_norm("vision_model.ln", d)
    s = d * cfg["spatial_conv_size"] ** 2
    r = "model.resampler_model"
    for part, inp in (("spatial_linear", s), ("temporal_linear", s * cfg["temporal_conv_size"])):
        linear(f"{r}.{part}.0", s, inp, 1.4)
        linear(f"{r}.{part}.2", s, s, 1.4)
        layer_norm(f"{r}.{part}.3", s)
    linear(f"{r}.mlp", h, s)
    w[f"{r}.after_norm.weight"] = init.norm(h)
    return w


def published_config(kind, **over):
    """`config.json` as the hub has it (flat, `rope_scaling: null`, `torch_dtype`)."""
    base = {
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        "hidden_act": "silu", "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "rope_scaling": None,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "use_bias": False, "use_cache": True,
    }
    if kind == "dense":
        base |= {"architectures": ["Ernie4_5_ForCausalLM"], "model_type": "ernie4_5"}
    if kind == "moe":
        base |= {"architectures": ["Ernie4_5_MoeForCausalLM"], "model_type": "ernie4_5_moe"}
    if kind in ("moe", "vl"):
        base |= {
            "moe_capacity": [64, 64, 64], "moe_gate": "topk", "moe_use_aux_free": True,
            "moe_norm_min": 1e-12, "moe_layer_interval": 1,
        }
    if kind == "vl":
        base |= {
            "architectures": ["Ernie4_5_VLMoeForConditionalGeneration"],
            "model_type": "ernie4_5_moe_vl",
            "rope_3d": True, "spatial_conv_size": 2, "temporal_conv_size": 2,
        }
    return dict(sorted((base | over).items()))


def hf_config(cfg):
    """The same configuration as a transformers object."""
    import transformers as tf

    text = {k: cfg[k] for k in (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "max_position_embeddings",
        "rms_norm_eps", "hidden_act", "use_bias", "tie_word_embeddings",
        "bos_token_id", "eos_token_id", "pad_token_id")}
    rope = {"rope_type": "default", "rope_theta": cfg["rope_theta"]}
    if "moe_num_experts" in cfg:
        text |= {
            "moe_k": cfg["moe_k"], "moe_num_experts": _first(cfg["moe_num_experts"]),
            "moe_intermediate_size": cfg["moe_intermediate_size"],
            "moe_num_shared_experts": cfg["moe_num_shared_experts"] or 0,
            "moe_norm_min": cfg["moe_norm_min"],
        }
    if cfg["model_type"] == "llama":
        text["attention_bias"] = text["mlp_bias"] = text.pop("use_bias")
        return tf.LlamaConfig(**text, head_dim=head_dim(cfg), rope_parameters=rope)
    if cfg["model_type"] == "ernie4_5":
        return tf.Ernie4_5Config(**text, head_dim=head_dim(cfg), rope_parameters=rope)
    if cfg["model_type"] == "ernie4_5_moe":
        return tf.Ernie4_5_MoeConfig(
            **text, rope_parameters=rope,
            moe_layer_start_index=cfg["moe_layer_start_index"],
            moe_layer_end_index=cfg["moe_layer_end_index"],
            moe_layer_interval=cfg["moe_layer_interval"])
    v = cfg["vision_config"]
    if "head_dim" in cfg:
        text["head_dim"] = cfg["head_dim"]
    t = cfg["freq_allocation"]
    side = (head_dim(cfg) // 2 - t) // 2
    text["rope_parameters"] = rope | {"mrope_section": [side, side, t]}
    text["mlp_layer_types"] = [
        "sparse" if is_moe_layer(cfg, i) else "dense" for i in range(cfg["num_hidden_layers"])]
    return tf.Ernie4_5_VLMoeConfig(
        text_config=text,
        vision_config={
            "depth": v["depth"], "hidden_size": v["embed_dim"], "num_heads": v["num_heads"],
            "intermediate_size": int(v["embed_dim"] * v["mlp_ratio"]),
            "patch_size": v["patch_size"], "spatial_merge_size": cfg["spatial_conv_size"],
            "temporal_merge_size": cfg["temporal_conv_size"], "rms_norm_eps": 1e-6,
            "hidden_act": v["hidden_act"]},
        image_token_id=cfg["im_patch_id"], video_token_id=cfg["im_patch_id"] + 6,
        image_start_token_id=cfg["image_start_token_id"], image_end_token_id=cfg["image_end_token_id"],
        video_start_token_id=cfg["video_start_token_id"], video_end_token_id=cfg["video_end_token_id"],
        tie_word_embeddings=cfg["tie_word_embeddings"])
