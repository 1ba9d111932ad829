"""A noise scale fitted to the embedded generator of digits at 10 calls.

    jaxcil calibrate-sampler --config=configs/calibrate_sampler.py --workdir=runs/calibration
    jaxcil generate --config=configs/generate_digits.py --config.plan=runs/calibration/plan.json --workdir=runs/fitted

At 10 calls these small images leave nothing to gain, and the command says so: on six held-out seeds the energy
distance to samples of 40 calls goes from 0.0006 to 0.0011, worse by 0.0005 with a standard error of 0.0002. Noise
scales differ by about 0.001 here, which the noise of the losses (0.01 a batch) hides: the fit follows it to s = 0.28,
eta = 0.003. With published derivatives and other seeds it was even. 11 minutes on two CPU cores that other work shared.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = "digits"  # or a folder that holds a Stable Diffusion 1.x or 2.x of diffusers
    config.class_names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    config.templates = ("a handwritten digit {}", "the digit {}", "a scan of the number {}", "{}")
    config.guidance_scale = 2.0
    config.calls = 10
    config.order = 3
    config.derivative = "corrected"
    config.start = "euler"
    config.family = "product"  # or "strength", "power"
    config.parameters = dict(s=1.0, eta=0.02)  # to start from: nearly phi 7, the paper's default
    config.images_per_prompt = 2  # in a batch, of each class and template
    config.reference_calls = 40
    config.reference_batches = 6
    config.steps = 60
    config.learning_rate = 0.15
    config.seed = 0
    config.held_out_seeds = (11, 12, 13, 14, 15, 16)
    config.held_out_batches = 6
    return config.lock()
