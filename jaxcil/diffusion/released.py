"""The configurations of released models, for those who plan or time without the weights.

Values of the config.json files on the hub; what these leave out has diffusers' default there and here.
"""

from typing import Any

_UNET = {"block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2}
_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.18215,
}
_SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}

# Name -> part of a pipeline -> its configuration.
RELEASED: dict[str, dict[str, dict[str, Any]]] = {
    # Stable Diffusion 1.5, 512 x 512; 1.4 is the same but for the numbers learned
    "sd15": {
        "unet": _UNET | {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
        "vae": _VAE | {"sample_size": 512},
        "text_encoder": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "hidden_act": "quick_gelu",
        },
        "scheduler": _SCHEDULER | {"prediction_type": "epsilon"},
    },
    # Stable Diffusion 2.1, 768 x 768
    "sd21": {
        "unet": _UNET
        | {
            "sample_size": 96,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
            "upcast_attention": True,
        },
        "vae": _VAE | {"sample_size": 768},
        "text_encoder": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 23,
            "num_attention_heads": 16,
            "hidden_act": "gelu",
        },
        "scheduler": _SCHEDULER | {"prediction_type": "v_prediction"},
    },
}
