"""The other names the same weights go by (`ernie-4.5.md`, 2.5 and 3.3)."""

import re

import torch


def _linear(name):
    return name.endswith("_proj.weight") or name == "lm_head.weight"


def paddle(weights):
    """`-Paddle`: prefix `ernie.`, q|k|v and gate|up fused, linears `[in, out]`."""
    out = {}
    for name, w in weights.items():
        new = re.sub(r"^model\.", "ernie.", name)
        kind = name.rsplit(".", 1)[-1]
        if ".q_proj." in name:
            parts = [weights[name.replace("q_proj", p)] for p in ("q_proj", "k_proj", "v_proj")]
            w, new = torch.cat(parts), new.replace("q_proj", "qkv_proj")
        elif ".gate_proj." in name:
            w = torch.cat([w, weights[name.replace("gate_proj", "up_proj")]])
            new = new.replace("gate_proj", "up_gate_proj")
        elif re.search(r"\.(k|v|up)_proj\.", name):
            continue
        if kind == "weight" and (_linear(name) or name.endswith("mlp.gate.weight")):
            w = w.T
        out[new] = w.contiguous()
    return out


def stacked_moe(weights):
    """Text MoE as transformers 5 holds it: one tensor per layer for all experts."""
    out = {k: v for k, v in weights.items() if ".experts." not in k and "mtp" not in k}
    out = {k.replace("mlp.moe_statics", "mlp.gate.moe_statics"): v for k, v in out.items()}
    for layer, experts in _expert_banks(weights).items():
        p = f"model.layers.{layer}.mlp.experts"
        out[f"{p}.gate_up_proj"], out[f"{p}.down_proj"] = _stack(experts)
    return out


def _expert_banks(weights):
    """layer -> experts in numeric order, each (gate, up, down)."""
    found = {}
    for name in weights:
        m = re.fullmatch(r"model\.layers\.(\d+)\.mlp\.experts\.(\d+)\.gate_proj\.weight", name)
        if m:
            found.setdefault(int(m[1]), []).append(int(m[2]))
    return {
        layer: [tuple(weights[f"model.layers.{layer}.mlp.experts.{e}.{p}_proj.weight"]
                      for p in ("gate", "up", "down")) for e in sorted(ids)]
        for layer, ids in found.items()}


def _stack(experts):
    return (torch.stack([torch.cat([g, u]) for g, u, _ in experts]),
            torch.stack([d for _, _, d in experts]))


def converted_vl(weights, stacked=True):
    """transformers' VL names. The per-expert form is the older one: the bias
    outside `gate`, and the tower under `model.vision_model`."""
    out = {}
    tower = "model.vision_tower." if stacked else "model.vision_model."
    for name, w in weights.items():
        if ".experts." in name:
            continue
        if "mlp.gate.weight" in name:
            bank = "vision_moe" if name.endswith("_1") else "text_moe"
            name = re.sub(r"mlp\.gate\.weight(_1)?", f"mlp.{bank}.gate.weight", name)
            w = w.T.contiguous()
        elif "moe_statics" in name:
            p = name.split("mlp.")[0] + "mlp"
            for row, bank in enumerate(("text_moe", "vision_moe")):
                where = "gate.moe_statics" if stacked else "moe_statics"
                out[_outer(f"{p}.{bank}.{where}.e_score_correction_bias", tower)] = w[row : row + 1].contiguous()
            continue
        for old, new in (("0", "fc1"), ("2", "fc2"), ("3", "ln")):
            name = re.sub(rf"(spatial|temporal)_linear\.{old}\.", rf"\1_linear.{new}.", name)
        out[_outer(name, tower)] = w
    for layer, experts in _expert_banks(weights).items():
        half = len(experts) // 2
        for bank, members in (("text_moe", experts[:half]), ("vision_moe", experts[half:])):
            p = f"model.language_model.layers.{layer}.mlp.{bank}.experts"
            if stacked:
                out[f"{p}.gate_up_proj"], out[f"{p}.down_proj"] = _stack(members)
            else:
                for e, parts in enumerate(members):
                    for part, w in zip(("gate", "up", "down"), parts):
                        out[f"{p}.{e}.{part}_proj.weight"] = w
    return out


def _outer(name, tower):
    name = re.sub(r"^vision_model\.", tower, name)
    return re.sub(r"^model\.(embed_tokens|layers|norm)\b", r"model.language_model.\1", name)


def converted_vl_config(hf, layer_types=True):
    """The nested `config.json` of a converted VL repository."""
    d = hf.to_dict()
    text, vision = d["text_config"], d["vision_config"]
    keep_text = (
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads "
        "head_dim hidden_act max_position_embeddings rms_norm_eps use_bias moe_intermediate_size moe_k "
        "moe_num_experts moe_num_shared_experts moe_norm_min mlp_layer_types rope_parameters "
        "bos_token_id eos_token_id pad_token_id model_type").split()
    keep_vision = ("depth hidden_size hidden_act num_heads in_channels patch_size spatial_merge_size "
                   "intermediate_size temporal_merge_size rms_norm_eps model_type").split()
    keep = ("image_start_token_id image_end_token_id image_token_id video_start_token_id "
            "video_end_token_id video_token_id tie_word_embeddings model_type").split()
    return {
        "architectures": ["Ernie4_5_VLMoeForConditionalGeneration" if layer_types
                          else "Ernie4_5_VL_MoeForConditionalGeneration"],
        "dtype": "bfloat16",
        **{k: d[k] for k in keep if k in d},
        "text_config": {k: text[k] for k in keep_text if k in text},
        "vision_config": {k: vision[k] for k in keep_vision if k in vision},
    }
