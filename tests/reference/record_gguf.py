"""Writes GGUF cases; the reference runs on the exactly dequantised weights in f32.

`gguf` quantises the simple block types. It only *reads* Q4_K, Q5_K and Q6_K, so
their blocks are drawn: random codes and scales with half-precision factors that
give weights of a sensible size.
"""

import json
import shutil

import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from gguf import GGUFWriter, TokenType
from gguf.quants import dequantize, quantize
from sentencepiece import sentencepiece_model_pb2 as pb

import capture
from cases import text_inputs
from checkpoints import Init, head_dim, is_moe_layer, published_config, text_weights
from record_models import RECORDED, finite, load_model, save, search, write_json

DENSE = published_config(
    "dense", vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=24, rope_theta=10000.0)
K_DENSE = published_config(
    "dense", vocab_size=64, hidden_size=256, intermediate_size=256, num_hidden_layers=1,
    num_attention_heads=8, num_key_value_heads=2, head_dim=32)
MOE = published_config(
    "moe", vocab_size=96, hidden_size=64, intermediate_size=64, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=2, moe_num_experts=6, moe_k=2, moe_intermediate_size=32,
    moe_num_shared_experts=2, moe_layer_start_index=1, moe_layer_end_index=-1)
LLAMA = published_config(
    "llama", architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=96, hidden_size=96,
    intermediate_size=96, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
    rope_theta=10000.0, tie_word_embeddings=False)

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp", "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
}


def gguf_names(cfg, weights):
    """GGUF name -> (array, the published names it is made of)."""
    out = {}
    for ours, theirs in (("token_embd.weight", "model.embed_tokens.weight"),
                         ("output_norm.weight", "model.norm.weight"), ("output.weight", "lm_head.weight")):
        if theirs in weights:
            out[ours] = (weights[theirs].float().numpy(), theirs)
    for layer in range(cfg["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        for theirs, ours in NAMES.items():
            name = f"{p}{theirs}.weight"
            if name in weights:
                out[f"blk.{layer}.{ours}.weight"] = (weights[name].float().numpy(), name)
        if is_moe_layer(cfg, layer):
            name = f"{p}mlp.moe_statics.e_score_correction_bias"
            # converters leave it [1, E] or flatten it
            bias = weights[name].numpy() if layer % 2 else weights[name].reshape(-1).numpy()
            out[f"blk.{layer}.exp_probs_b.bias"] = (bias, name)
            for part in ("gate", "up", "down"):
                names = [f"{p}mlp.experts.{e}.{part}_proj.weight" for e in range(cfg["moe_num_experts"])]
                out[f"blk.{layer}.ffn_{part}_exps.weight"] = (np.stack([weights[n].float().numpy() for n in names]), names)
    return out


def permute(w, heads):
    """llama.cpp's row order for arch `llama`: half-split pairs become neighbours."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def unpermute(w, heads):
    return w.reshape(heads, w.shape[0] // heads // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


K_BLOCK = {T.Q4_K: 144, T.Q5_K: 176, T.Q6_K: 210}


def random_k_blocks(rng, kind, shape, std):
    """Valid bytes of a K-quant for `shape`, and about `std` when dequantised."""
    rows, blocks = int(np.prod(shape[:-1])), shape[-1] // 256
    data = rng.integers(0, 256, (rows, blocks, K_BLOCK[kind]), dtype=np.uint8)
    n = (rows, blocks)
    spread = rng.uniform(0.7, 1.3, n)
    half = lambda x: x.astype(np.float16).view(np.uint8).reshape(*n, 2)
    if kind == T.Q6_K:
        # d · scale · (q - 32), scale -128..127: keep scales away from the rim
        data[..., 192:208] = rng.integers(-96, 97, (*n, 16)).astype(np.int8).view(np.uint8)
        data[..., 208:210] = half(spread * std / (55 * 18))
    else:
        top = 15 if kind == T.Q4_K else 31
        # d · scale · q - dmin · min, both six bits; means cancel on average
        d = spread * std / (31 * top * 0.45)
        data[..., 0:2] = half(d)
        data[..., 2:4] = half(d * top / 2)
    return data.reshape(*shape[:-1], blocks * K_BLOCK[kind])


def write(case, cfg, kind_of, covers, seed, arch, tokenizer=None):
    """`kind_of(name)` names the block type of a matrix."""
    rng = np.random.default_rng(seed)
    weights = text_weights(cfg, Init(seed))
    d = RECORDED / case
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    w = GGUFWriter(d / "model.gguf", arch)
    w.add_name("ocelli-test")
    w.add_block_count(cfg["num_hidden_layers"])
    w.add_context_length(cfg["max_position_embeddings"])
    w.add_embedding_length(cfg["hidden_size"])
    w.add_feed_forward_length(cfg["intermediate_size"])
    w.add_head_count(cfg["num_attention_heads"])
    w.add_head_count_kv(cfg["num_key_value_heads"])
    w.add_layer_norm_rms_eps(cfg["rms_norm_eps"])
    w.add_rope_freq_base(cfg["rope_theta"])
    w.add_rope_dimension_count(head_dim(cfg))
    w.add_vocab_size(cfg["vocab_size"])
    if "head_dim" in cfg:
        w.add_key_length(cfg["head_dim"])
        w.add_value_length(cfg["head_dim"])
    if arch == "ernie4_5-moe":
        w.add_expert_count(cfg["moe_num_experts"])
        w.add_expert_used_count(cfg["moe_k"])
        w.add_interleave_moe_layer_step(cfg["moe_layer_interval"])
        w.add_leading_dense_block_count(cfg["moe_layer_start_index"])
        w.add_expert_feed_forward_length(cfg["moe_intermediate_size"])
        w.add_expert_shared_count(cfg["moe_num_shared_experts"])
        # as the converter has it; wrong here, so that only tensor shapes are right
        w.add_expert_shared_feed_forward_length(cfg["intermediate_size"] // cfg["num_key_value_heads"])
    exact = dict(weights)
    for name, (array, source) in gguf_names(cfg, weights).items():
        heads = {"attn_q": cfg["num_attention_heads"], "attn_k": cfg["num_key_value_heads"]}.get(name.split(".")[-2])
        if arch != "llama":
            heads = None
        plain = array.ndim == 1 or "ffn_gate_inp" in name or "exp_probs" in name
        kind = T.F32 if plain else kind_of(name)
        array = np.ascontiguousarray(permute(array, heads) if heads else array)
        if kind in K_BLOCK:
            data = random_k_blocks(rng, kind, array.shape, array.std())
        else:
            data = quantize(array, kind)
        back = dequantize(data, kind).astype(np.float32).reshape(array.shape)
        w.add_tensor(name, data, raw_dtype=None if kind in (T.F32, T.F16) else kind)
        back = unpermute(back, heads) if heads else back
        if isinstance(source, list):
            for s, b in zip(source, back):
                exact[s] = torch.from_numpy(b.copy())
        else:
            exact[source] = torch.from_numpy(back.copy()).reshape(weights[source].shape)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    model = load_model(cfg, exact)
    inputs, expected, margin = search(cfg, model, lambda: text_inputs(seed, 18, cfg["vocab_size"]), "transformers")
    keep = {k: v for k, v in expected.items() if not k.startswith("hidden")}
    save(d / "input.safetensors", inputs)
    save(d / "expected.safetensors", keep)
    write_json(d / "meta.json", {"covers": covers, "positions": "transformers", "margins": finite(margin)})
    print(f"{case}: {(d / 'model.gguf').stat().st_size} bytes std={expected['logits'].std():.2f} {margin}")


def mixed_k(name):
    if "token_embd" in name or "ffn_down" in name:
        return T.Q6_K
    return T.Q5_K if "attn_v" in name or "attn_output" in name or "ffn_up" in name else T.Q4_K


def mixed_moe(name):
    if "gate_exps" in name:
        return T.Q4_0
    if "up_exps" in name:
        return T.Q5_1
    return {"down_exps": T.Q8_0, "attn_q": T.F16, "token_embd": T.BF16}.get(
        next((k for k in ("down_exps", "attn_q", "token_embd") if k in name), ""), T.Q4_1)


def vocabularies():
    """Vocabulary-only GGUF files of the recorded tokenizers."""
    source = RECORDED / "tokenizer"
    model = pb.ModelProto()
    model.ParseFromString((source / "tokenizer.model").read_bytes())
    added = json.loads((source / "added_tokens.json").read_text())
    for file, flags in (("tokenizer.gguf", True), ("tokenizer-no-flags.gguf", False)):
        w = GGUFWriter(source / file, "ernie4_5")
        w.add_name("ocelli-test vocabulary")
        w.add_tokenizer_model("llama")
        w.add_tokenizer_pre("default")
        kinds = {1: TokenType.NORMAL, 2: TokenType.UNKNOWN, 3: TokenType.CONTROL, 4: TokenType.USER_DEFINED,
                 5: TokenType.UNUSED, 6: TokenType.BYTE}
        tokens = [(p.piece, p.score, kinds[p.type]) for p in model.pieces]
        tokens += [(t, -1000.0, TokenType.CONTROL) for t in sorted(added, key=added.get)]
        tokens += [(f"[PAD{i}]", -10000.0, TokenType.UNUSED) for i in range(len(tokens), len(tokens) + 9)]
        w.add_token_list([t.encode() for t, _, _ in tokens])
        w.add_token_scores([s for _, s, _ in tokens])
        w.add_token_types([int(k) for _, _, k in tokens])
        w.add_bos_token_id(1)
        w.add_eos_token_id(2)
        w.add_unk_token_id(0)
        w.add_pad_token_id(0)
        if flags:
            w.add_add_bos_token(False)
            w.add_add_space_prefix(False)
        w.add_chat_template((RECORDED / "chat" / "text.jinja").read_text())
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()


def byte_level_vocabulary():
    """The `gpt2` kind, from the recorded byte-level tokenizer."""
    source = RECORDED / "tokenizer_bytes"
    saved = json.loads((source / "tokenizer.json").read_text())
    vocab, added = saved["model"]["vocab"], {t["content"]: t["id"] for t in saved["added_tokens"]}
    tokens = sorted(vocab | added, key=(vocab | added).get)
    w = GGUFWriter(source / "tokenizer.gguf", "llama")
    w.add_name("ocelli-test vocabulary")
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list([t.encode() for t in tokens])
    w.add_token_types([int(TokenType.CONTROL if t in added else TokenType.NORMAL) for t in tokens])
    w.add_token_merges([" ".join(m) for m in saved["model"]["merges"]])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_bos_token(False)
    w.add_add_space_prefix(False)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    vocabularies()
    byte_level_vocabulary()
    for kind in (T.F32, T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1):
        write(f"gguf_{kind.name.lower()}", DENSE, lambda n: kind, f"ernie4_5, matrices in {kind.name}", 50 + kind, "ernie4_5")
    write("gguf_k_quants", K_DENSE, mixed_k, "ernie4_5, Q4_K, Q5_K and Q6_K in one file", 90, "ernie4_5")
    write("gguf_moe_f16", MOE, lambda n: T.F16, "ernie4_5-moe, matrices in F16", 91, "ernie4_5-moe")
    write("gguf_moe_mixed", MOE, mixed_moe, "ernie4_5-moe, six types in one file", 92, "ernie4_5-moe")
    write("gguf_llama", LLAMA, lambda n: T.Q8_0, "arch llama: q/k rows permuted, GQA 3:1, untied", 93, "llama")


if __name__ == "__main__":
    main()
