//! The shapes of published models, as their `config.json` states them.

/// Names and configurations.
pub const SHAPES: [(&str, &str); 3] = [
    (
        "0.3b",
        r#"{"model_type": "ernie4_5", "hidden_size": 1024, "num_hidden_layers": 18,
            "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 3072,
            "vocab_size": 103424, "rope_theta": 500000, "rms_norm_eps": 1e-5, "use_bias": false,
            "tie_word_embeddings": true, "max_position_embeddings": 131072, "eos_token_id": 2}"#,
    ),
    (
        "21b-a3b",
        r#"{"model_type": "ernie4_5_moe", "hidden_size": 2560, "num_hidden_layers": 28,
            "num_attention_heads": 20, "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 12288,
            "vocab_size": 103424, "rope_theta": 500000, "rms_norm_eps": 1e-5, "use_bias": false,
            "tie_word_embeddings": true, "max_position_embeddings": 131072, "eos_token_id": 2,
            "moe_num_experts": 64, "moe_k": 6, "moe_intermediate_size": 1536, "moe_num_shared_experts": 2,
            "moe_layer_start_index": 1, "moe_layer_end_index": 27, "moe_layer_interval": 1,
            "moe_use_aux_free": true, "moe_norm_min": 1e-12}"#,
    ),
    (
        "vl-28b-a3b",
        r#"{"model_type": "ernie4_5_moe_vl", "hidden_size": 2560, "num_hidden_layers": 28,
            "num_attention_heads": 20, "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 12288,
            "vocab_size": 103424, "rope_theta": 500000, "rms_norm_eps": 1e-5, "use_bias": false,
            "tie_word_embeddings": true, "max_position_embeddings": 131072, "eos_token_id": 2,
            "moe_num_experts": [64, 64], "moe_k": 6, "moe_intermediate_size": [1536, 512],
            "moe_num_shared_experts": 2, "moe_layer_start_index": [1, 1], "moe_layer_end_index": [29, 28],
            "moe_layer_interval": 1, "moe_use_aux_free": true, "moe_norm_min": 1e-12,
            "rope_3d": true, "freq_allocation": 20, "pixel_hidden_size": 1280,
            "spatial_conv_size": 2, "temporal_conv_size": 2, "im_patch_id": 100295,
            "image_start_token_id": 101304, "image_end_token_id": 101305,
            "video_start_token_id": 101306, "video_end_token_id": 101307,
            "vision_config": {"depth": 32, "embed_dim": 1280, "hidden_size": 1280, "num_heads": 16,
                "mlp_ratio": 4, "patch_size": 14, "in_channels": 3, "spatial_merge_size": 2,
                "hidden_act": "quick_gelu"}}"#,
    ),
];
