"""Which sampler is best for so many denoiser calls: ER-SDE of all orders beside its peers.

    jaxcil compare-samplers --config=configs/compare_samplers.py --workdir=runs/samplers

It took 38 minutes on two CPU cores that other work shared (digits 19, mixtures 16.5, all else 2.5), and 28 more, at low
priority, for the digits at 50 calls. Corrected order 3 against the published one, by 10 and 20 calls: 20 and
63 percent nearer on the Gaussian, 29 percent and no difference on the mixture, 2 percent and none on the digits; on the
ring 0.0003 farther by 10 calls, none by 20.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.samplers = (
        "er_sde_1",
        "er_sde_2",
        "er_sde_3",
        "er_sde_official",
        "er_sde_comfy",
        "er_sde_3_corrected",
        "er_sde_3_corrector",
        "er_sde_3_log_lam",
        "er_ode_3_corrector",
        "ddim",
        "ancestral",
        "euler_maruyama",
        "dpmpp_2m",
        "sde_dpmpp_2m",
        "heun",
    )
    config.data = ("gaussian", "ring", "mixture", "digits")
    config.calls = (5, 7, 10, 15, 20, 30, 50, 100)  # on all data but digits
    config.seed = 0  # of the mixtures
    config.repetitions = 8
    config.points = 8192
    config.directions = 64
    config.order_calls = (10, 20, 40, 80, 160, 320, 640, 1280)  # none: leaves the orders out
    config.digits = dict(
        model="digits",  # or a folder that holds a Stable Diffusion 1.x or 2.x of diffusers
        dataset="digits",  # real images: the classifier's are its "train", those compared with its "test"
        data_dir=config_dict.placeholder(str),
        seen="generator",  # the split that the model was trained on
        templates=("a handwritten digit {}", "the digit {}", "a scan of the number {}", "{}"),
        calls=(5, 7, 10, 20, 50),
        seeds=(0, 1, 2),
        images=500,
        batch_size=100,
        # by 50 calls from the same noise it is 0.0015 away, a thirtieth of what two sets of 1,000 images are
        limit=dict(sampler="er_ode_3_corrector", calls=100, images=1000, seed=1000),
        judge=dict(blocks=1, steps=600, batch_size=64, learning_rate=0.1, weight_decay=5e-4, shift=1, seed=0),
    )
    return config.lock()
