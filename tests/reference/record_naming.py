"""Writes the cases that differ from another one in names, files or dtype only."""

import json
import shutil

import torch

import capture
import naming
from cases import MODELS, vl_inputs
from checkpoints import hf_config
from record_models import MIN_GREEDY_MARGIN, MIN_ROUTER_MARGIN, RECORDED, bf16_bound, finite, load_model, model_weights, save, write_json


def fresh(case):
    d = RECORDED / case
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    return d


def variant(case, of, covers, config, weights):
    d = fresh(case)
    write_json(d / "config.json", config)
    save(d / "model.safetensors", weights)
    write_json(d / "meta.json", {"covers": covers, "same_as": of})
    return d


def sharded():
    cfg = MODELS["dense"][0]
    d = fresh("dense_sharded")
    weights = model_weights("dense")
    names = list(weights)
    index = {}
    for i in range(3):
        file = f"model-{i + 1:05d}-of-00003.safetensors"
        # one layer's tensors fall into different files
        part = {n: weights[n] for n in names[i::3]}
        save(d / file, part)
        index |= dict.fromkeys(part, file)
    total = sum(w.numel() * w.element_size() for w in weights.values())
    write_json(d / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))})
    write_json(d / "config.json", cfg)
    bounds = json.loads((RECORDED / "dense" / "meta.json").read_text())["bounds"]
    write_json(d / "meta.json", {"covers": "three bf16 files and an index", "same_as": "dense", "bounds": bounds})


def assert_reads_the_same(directory, config, reference):
    """transformers must read this very directory to the same weights."""
    generation = directory / "generation_config.json"
    generation.write_text("{}")
    theirs = dict(capture.load(directory, config).named_parameters())
    generation.unlink()
    assert all(torch.equal(p, theirs[n]) for n, p in reference.named_parameters())


def converted(case, model, stacked, inputs, covers):
    """Converted VL files, with the video placeholder id only they have."""
    cfg = MODELS[model][0]
    weights = model_weights(model)
    hf = hf_config(cfg)
    new = naming.converted_vl({k: v for k, v in weights.items() if not (cfg["tie_word_embeddings"] and k == "lm_head.weight")}, stacked)
    d = fresh(case)
    write_json(d / "config.json", naming.converted_vl_config(hf, stacked))
    save(d / "model.safetensors", new)
    reference = load_model(cfg, weights)
    if stacked:
        assert_reads_the_same(d, hf, reference)
    expected, margin = capture.run(reference, cfg, inputs)
    assert margin["router"] > MIN_ROUTER_MARGIN and margin["greedy"] > MIN_GREEDY_MARGIN, margin
    kinds, _ = capture.token_types(cfg, inputs["input_ids"])
    shown = dict(inputs)
    shown["input_ids"] = torch.where(kinds == 2, torch.full_like(inputs["input_ids"], hf.video_token_id), inputs["input_ids"])
    save(d / "input.safetensors", shown)
    save(d / "expected.safetensors", expected)
    write_json(d / "meta.json", {"covers": covers, "positions": "transformers", "margins": finite(margin),
                                 "bounds": bf16_bound(cfg, weights, inputs, expected, "transformers")})
    print(case, margin)


def main():
    sharded()
    paddle_cfg = lambda c: {k: v for k, v in c.items() if k not in ("rope_scaling", "moe_gate")} | {"dtype": c["torch_dtype"]}
    for of in ("dense_bias", "moe"):
        cfg = paddle_cfg(MODELS[of][0])
        del cfg["torch_dtype"]
        variant(f"{of}_paddle", of, "Paddle names: fused, [in, out], prefix `ernie.`", cfg,
                {k: v for k, v in naming.paddle(model_weights(of)).items() if "mtp" not in k})
    cfg = dict(MODELS["moe"][0])
    rope = {"rope_type": "default", "rope_theta": cfg.pop("rope_theta")}
    for k in ("rope_scaling", "torch_dtype", "num_nextn_predict_layers"):
        del cfg[k]
    cfg |= {"rope_parameters": rope, "dtype": "bfloat16", "moe_layer_end_index": 2}
    d = variant("moe_stacked", "moe", "transformers 5 names: stacked experts, bias under `gate`, `rope_parameters`",
            dict(sorted(cfg.items())), naming.stacked_moe(model_weights("moe")))
    published = MODELS["moe"][0]
    assert_reads_the_same(d, hf_config(published), load_model(published, model_weights("moe")))
    converted("vl_converted", "vl", True, vl_inputs(41, 4, ("image", 2, 4), 3, ("video", 2, 4, 2), 5),
              "transformers' VL names, stacked experts, nested config, its own video placeholder")
    converted("vl_converted_experts", "vl_untied", False, vl_inputs(43, 5, ("image", 4, 2), 3, ("video", 2, 2, 4), 4),
              "the older VL names: per-expert tensors, bias beside `gate`, `model.vision_model`")


if __name__ == "__main__":
    main()
