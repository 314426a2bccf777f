"""Runs one checkpoint through transformers and records what `ocelli eval` writes."""

import warnings

import numpy as np
import torch

torch.set_num_threads(1)
torch.manual_seed(0)
warnings.filterwarnings("ignore")


def load(directory, config, dtype=torch.float32):
    """Loads a published directory with the eager reference code, and insists on
    every tensor being used (`mtp*` and a tied head's copy excepted)."""
    import transformers as tf

    tf.utils.logging.set_verbosity_error()
    tf.utils.logging.disable_progress_bar()
    cls = {
        "llama": tf.LlamaForCausalLM,
        "ernie4_5": tf.Ernie4_5ForCausalLM,
        "ernie4_5_moe": tf.Ernie4_5_MoeForCausalLM,
        "ernie4_5_vl_moe": tf.Ernie4_5_VLMoeForConditionalGeneration,
    }[config.model_type]
    kwargs = {"attn_implementation": "eager"}
    if "moe" in config.model_type:
        kwargs["experts_implementation"] = "eager"
    model, info = cls.from_pretrained(
        directory, config=config, dtype=dtype, output_loading_info=True, **kwargs)
    unexpected = {k for k in info["unexpected_keys"] if "mtp" not in k and k != "lm_head.weight"}
    missing = {k for k in info["missing_keys"] if k != "lm_head.weight"}
    assert not unexpected and not missing and not info["mismatched_keys"], info
    return model.eval()


def token_types(cfg, input_ids):
    """(placeholder types for positions, types for experts) from the original ids.

    The original tokenizer has one placeholder id for images and video; a run
    between the video delimiters is video."""
    ids = input_ids[0].tolist()
    kinds, routes, in_video = [], [], False
    delimiters = {cfg[k] for k in (
        "image_start_token_id", "image_end_token_id", "video_start_token_id", "video_end_token_id")}
    for t in ids:
        if t == cfg["video_start_token_id"]:
            in_video = True
        if t == cfg["video_end_token_id"]:
            in_video = False
        kind = (2 if in_video else 1) if t == cfg["im_patch_id"] else 0
        kinds.append(kind)
        routes.append(int(kind > 0 or t in delimiters))
    as_tensor = lambda x: torch.tensor([x], dtype=torch.int32)
    return as_tensor(kinds), as_tensor(routes)


def original_positions(kinds, image_grid, video_grid):
    """The cursor rule of the original processor (time counts when a run ends).

    transformers advances by max(h, w) / 2 instead; both agree unless a video has
    more frame pairs than rows and columns."""
    grids = {1: list(image_grid), 2: list(video_grid)}
    pos, cur, i, n = [], 0, 0, len(kinds)
    while i < n:
        kind = kinds[i]
        if kind == 0:
            pos.append((cur, cur, cur))
            cur, i = cur + 1, i + 1
            continue
        t, h, w = (int(x) for x in grids[kind].pop(0))
        t, h, w = (t + 1) // 2, h // 2, w // 2
        run = [(cur + a, cur + b, cur + c) for a in range(t) for b in range(h) for c in range(w)]
        assert all(k == kind for k in kinds[i:i + len(run)])
        pos += run
        cur, i = max(max(p) for p in run) + 1, i + len(run)
    return torch.tensor(pos).T.contiguous()


class Hooks:
    """Collects block outputs by name for one forward pass at a time."""

    def __init__(self, model):
        self.seen, self.handles = {}, []
        text = model.model.language_model if hasattr(model.model, "language_model") else model.model
        self._on(text.layers[0], "hidden.embed", pre=True)
        for i, layer in enumerate(text.layers):
            self._on(layer, f"hidden.layer.{i}")
            for name, module in layer.named_modules():
                if type(module).__name__.endswith("TopKRouter"):
                    bank = name.removeprefix("mlp.").removesuffix("gate").rstrip(".")
                    key = ".".join(x for x in ("router.layers", str(i), bank, "selected") if x)
                    self._on(module, key, pick=2)
                    self.handles.append(module.register_forward_hook(self._margin(module)))
        self._on(text.norm, "hidden.norm")
        if hasattr(model.model, "vision_tower"):
            self._on(model.model.vision_tower.ln, "vision_out", append=True)
            self._on(model.model.resampler_model, "resampler_out", append=True)
        self.margin = float("inf")

    def _margin(self, module):
        """The smallest gap between neighbours among the k + 1 best biased scores:
        how far a choice, or its order, is from being decided by rounding."""
        def hook(_, args, out):
            p = out[0].reshape(-1, module.num_experts).softmax(-1) + module.moe_statics.e_score_correction_bias
            best = p.sort(-1, descending=True).values[:, : module.top_k + 1]
            self.margin = min(self.margin, (best[:, :-1] - best[:, 1:]).min().item())
        return hook

    def _on(self, module, key, pre=False, pick=None, append=False):
        def keep(x):
            x = x[pick] if pick is not None else x[0] if isinstance(x, tuple) else x
            x = x.detach().clone()
            x = x[0] if x.ndim == 3 else x
            self.seen[key] = torch.cat([self.seen[key], x]) if append and key in self.seen else x
        if pre:
            handle = module.register_forward_pre_hook(
                lambda m, a, kw: keep(a[0] if a else kw["hidden_states"]), with_kwargs=True)
        else:
            handle = module.register_forward_hook(lambda m, a, out: keep(out))
        self.handles.append(handle)

    def take(self):
        seen, self.seen = self.seen, {}
        return seen

    def close(self):
        for h in self.handles:
            h.remove()


@torch.no_grad()
def run(model, cfg, inputs, steps=16, positions="transformers"):
    """Returns the expected tensors and (router margin, greedy margin)."""
    from transformers import DynamicCache

    ids = inputs["input_ids"].long()
    n = ids.shape[1]
    out, kwargs, delta = {}, {}, 0
    hooks = Hooks(model)
    if cfg["model_type"] == "ernie4_5_moe_vl":
        kinds, routes = token_types(cfg, ids)
        images = inputs.get("image_grid_thw", torch.zeros(0, 3, dtype=torch.long))
        videos = inputs.get("video_grid_thw", torch.zeros(0, 3, dtype=torch.long))
        pos = original_positions(kinds[0].tolist(), images, videos)
        if "position_ids" in inputs:
            pos = inputs["position_ids"]
        elif positions == "transformers" and kinds.any():
            theirs, _ = model.model.get_rope_index(
                ids, kinds, images if len(images) else None, videos if len(videos) else None)
            assert torch.equal(theirs[:, 0], pos), "the two cursor rules differ here"
        delta = int(pos.max()) + 1 - n
        out["position_ids"] = pos
        kwargs = {"position_ids": pos[:, None], "mm_token_type_ids": kinds, "moe_mm_token_type_ids": routes}
        for k in ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw"):
            if k in inputs:
                kwargs[k] = inputs[k] if inputs[k].is_floating_point() else inputs[k].long()
        # transformers wants a second placeholder id for video
        ids = torch.where(kinds == 2, torch.full_like(ids, model.config.video_token_id), ids)
    cache = DynamicCache(config=model.config.get_text_config())
    logits = model(input_ids=ids, past_key_values=cache, use_cache=True, **kwargs).logits[0].float()
    seen = hooks.take()
    out["logits"] = logits
    out |= {k: (v.to(torch.int64) if v.dtype == torch.int64 else v.float()) for k, v in seen.items()}
    rows, chosen, gap = [logits[-1]], [], float("inf")
    for step in range(steps):
        top = rows[-1].topk(2)
        gap = min(gap, (top.values[0] - top.values[1]).item())
        chosen.append(int(top.indices[0]))
        if step == steps - 1:
            break
        extra = {}
        if "position_ids" in out:
            extra["position_ids"] = torch.full((3, 1, 1), n + step + delta)
        rows.append(model(input_ids=torch.tensor([[chosen[-1]]]), past_key_values=cache,
                          use_cache=True, **extra).logits[0, -1].float())
    out["greedy_ids"] = torch.tensor(chosen)
    out["greedy_logits"] = torch.stack(rows)
    hooks.close()
    return {k: v.contiguous() for k, v in out.items()}, {"router": hooks.margin, "greedy": gap}


def relative(a, b):
    """Largest difference as a share of the largest |reference|."""
    return (a - b).abs().max().item() / max(b.abs().max().item(), 1e-30)


def rng_pixels(seed, patches):
    """Normalised noise over a slope, as eight-bit pictures give."""
    rng = np.random.default_rng(seed)
    mean = np.array([0.48145466, 0.4578275, 0.40821073]).repeat(196)
    std = np.array([0.26862954, 0.26130258, 0.27577711]).repeat(196)
    level = rng.integers(0, 160, (patches, 1)) + rng.integers(0, 96, (patches, 588))
    return torch.from_numpy(((level / 255.0 - mean) / std).astype(np.float32))
