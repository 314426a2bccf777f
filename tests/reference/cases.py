"""The cases: which configuration, which weights, which inputs."""

import numpy as np
import torch

from capture import rng_pixels
from checkpoints import published_config

VOCAB = 200
IDS = {
    "im_patch_id": 190, "image_start_token_id": 191, "image_end_token_id": 192,
    "video_start_token_id": 193, "video_end_token_id": 194,
}

DENSE = published_config(
    "dense", vocab_size=VOCAB, hidden_size=48, intermediate_size=80, num_hidden_layers=3,
    num_attention_heads=8, num_key_value_heads=2, head_dim=16)

DENSE_BIAS = published_config(
    "dense", vocab_size=160, hidden_size=32, intermediate_size=56, num_hidden_layers=2,
    num_attention_heads=6, num_key_value_heads=3, head_dim=10, use_bias=True,
    tie_word_embeddings=False, rms_norm_eps=1e-6, rope_theta=10000.0, torch_dtype="float32")

MOE = published_config(
    "moe", vocab_size=VOCAB, hidden_size=48, intermediate_size=72, num_hidden_layers=3,
    num_attention_heads=6, num_key_value_heads=2, moe_num_experts=8, moe_k=3,
    moe_intermediate_size=16, moe_num_shared_experts=2, moe_layer_start_index=1,
    moe_layer_end_index=-1, num_nextn_predict_layers=1)

MOE_INTERVAL = published_config(
    "moe", vocab_size=160, hidden_size=32, intermediate_size=48, num_hidden_layers=6,
    num_attention_heads=4, num_key_value_heads=1, moe_num_experts=12, moe_k=4,
    moe_intermediate_size=20, moe_num_shared_experts=0, moe_layer_start_index=1,
    moe_layer_end_index=4, moe_layer_interval=2, use_bias=True,
    tie_word_embeddings=False, torch_dtype="float16")

VL = published_config(
    "vl", vocab_size=VOCAB, hidden_size=48, intermediate_size=64, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=2, head_dim=16, rope_theta=100.0,
    freq_allocation=2, moe_num_experts=[8, 8], moe_k=3, moe_intermediate_size=[24, 12],
    moe_num_shared_experts=2, moe_layer_start_index=[1, 1], moe_layer_end_index=[4, 3],
    pixel_hidden_size=32, **IDS,
    vision_config={
        "depth": 2, "embed_dim": 32, "hidden_act": "quick_gelu", "hidden_size": 32,
        "in_channels": 3, "in_chans": 3, "mlp_ratio": 4,
        "model_type": "DFNRope_vision_transformer", "num_heads": 2, "patch_size": 14,
        "spatial_merge_size": 2, "spatial_patch_size": 14})

# As VL-424B: no shared experts, an untied head, two dense layers first, rows of
# width hidden / heads, and marker ids that only the tokenizer files name.
VL_UNTIED = {k: v for k, v in published_config(
    "vl", vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=4,
    num_attention_heads=4, num_key_value_heads=1, rope_theta=50.0, freq_allocation=2,
    moe_num_experts=[6, 6], moe_k=2, moe_intermediate_size=[16, 24], moe_num_shared_experts=0,
    moe_layer_start_index=[2, 2], moe_layer_end_index=[3, 3], pixel_hidden_size=24,
    tie_word_embeddings=False, **IDS,
    vision_config={
        "depth": 2, "embed_dim": 24, "hidden_act": "quick_gelu", "hidden_size": 24,
        "in_channels": 3, "in_chans": 3, "mlp_ratio": 4,
        "model_type": "DFNRope_vision_transformer", "num_heads": 3, "patch_size": 14,
        "spatial_merge_size": 2, "spatial_patch_size": 14}).items()}

MODELS = {
    "dense": (DENSE, 11, torch.bfloat16),
    "dense_bias": (DENSE_BIAS, 12, torch.float32),
    "moe": (MOE, 13, torch.bfloat16),
    "moe_interval": (MOE_INTERVAL, 14, torch.float16),
    "vl": (VL, 15, torch.bfloat16),
    "vl_untied": (VL_UNTIED, 16, torch.bfloat16),
}


def words(rng, n):
    return [int(x) for x in rng.integers(13, 180, n)]


def image(h, w):
    return [191] + [190] * (h * w // 4) + [192]


def video(t, h, w):
    return [193] + [190] * (t // 2 * h * w // 4) + [194]


def vl_inputs(seed, *parts):
    """Parts: a number of words, ("image", h, w) or ("video", t, h, w)."""
    rng = np.random.default_rng(seed)
    ids, images, videos = [], [], []
    for part in parts:
        if isinstance(part, int):
            ids += words(rng, part)
        elif part[0] == "image":
            ids += image(*part[1:])
            images.append([1, *part[1:]])
        else:
            ids += video(*part[1:])
            videos.append(list(part[1:]))
    out = {"input_ids": torch.tensor([ids])}
    for name, grid, grids in (("pixel_values", "image_grid_thw", images),
                              ("pixel_values_videos", "video_grid_thw", videos)):
        if grids:
            g = torch.tensor(grids)
            out[name] = rng_pixels(seed + len(name), int(g.prod(-1).sum()))
            out[grid] = g
    return out


def text_inputs(seed, n, vocab):
    rng = np.random.default_rng(seed)
    return {"input_ids": torch.from_numpy(rng.integers(0, vocab, (1, n)))}


def given_positions():
    """Positions by transformers' cursor rule, which is not ours here; narrow ids;
    and a tensor nobody knows, to be ignored."""
    inputs = vl_inputs(32, 4, ("video", 4, 2, 2), 6)
    text = lambda start, n: [(i, i, i) for i in range(start, start + n)]
    positions = text(0, 5) + [(5, 5, 5), (6, 5, 5)] + text(6, 7)
    inputs["position_ids"] = torch.tensor(positions).T.contiguous()
    inputs["input_ids"] = inputs["input_ids"].to(torch.int32)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    return inputs


# case -> (model, inputs, which cursor rule the positions follow, what it covers)
CASES = {
    "dense": ("dense", lambda: text_inputs(21, 24, VOCAB), "transformers",
              "head_dim 16 with hidden / heads = 6, GQA 4:1, tied head"),
    "dense_bias": ("dense_bias", lambda: text_inputs(22, 21, 160), "transformers",
                   "use_bias, untied head, GQA 2:1, head_dim 10, eps 1e-6, theta 1e4, f32 file"),
    "moe": ("moe", lambda: text_inputs(23, 28, VOCAB), "transformers",
            "dense layer 0, 2 shared experts, correction bias, tied, mtp tensors to ignore, end -1"),
    "moe_interval": ("moe_interval", lambda: text_inputs(24, 23, 160), "transformers",
                     "interval 2, last MoE layer 4 of 6, 12 experts, no shared experts, biases incl. lm_head, f16 file"),
    "vl_image": ("vl", lambda: vl_inputs(25, 6, ("image", 4, 10), 7), "transformers",
                 "one image of odd aspect ratio (grid 1x4x10)"),
    "vl_two_images": ("vl", lambda: vl_inputs(26, 4, ("image", 6, 4), 5, ("image", 2, 8), 6), "transformers",
                      "two images with text between"),
    "vl_video": ("vl", lambda: vl_inputs(27, 5, ("video", 4, 6, 4), 6), "transformers",
                 "a video of four frames"),
    "vl_image_video": ("vl", lambda: vl_inputs(28, 3, ("image", 4, 4), 4, ("video", 4, 4, 6), 5), "transformers",
                       "an image, then a video"),
    "vl_text": ("vl", lambda: vl_inputs(29, 20), "transformers",
                "text only through the VL model: the text bank alone"),
    "vl_long_video": ("vl", lambda: vl_inputs(30, 4, ("video", 8, 2, 4), 7), "original",
                      "more frame pairs than rows or columns: the original cursor rule"),
    "vl_given_positions": ("vl", given_positions, "given",
                           "`position_ids` as an input, i32 ids, an unknown tensor"),
    "vl_untied": ("vl_untied", lambda: vl_inputs(31, 5, ("video", 2, 4, 4), 3, ("image", 4, 6), 6), "transformers",
                  "untied, no shared experts, two dense layers, no head_dim key, video before image"),
}
