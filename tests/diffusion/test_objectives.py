"""The training of a small Stable Diffusion: what its objectives compute, and that a pipeline comes out."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil import convolution
from jaxcil.diffusion import objectives, settings
from jaxcil.diffusion.objectives import DenoiserTraining, LabelledImages, latent_scale
from jaxcil.diffusion.text_encoder import CLIPTextModel
from jaxcil.diffusion.tokenizer import learn_tokenizer
from jaxcil.diffusion.train import train_pipeline
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.diffusion.vae import AutoencoderKL
from jaxcil.training import loop
from jaxcil.training.learner import Part
from jaxcil.training.optimizer import AdamW, moving_average

WORDS = [["a digit one", "one"], ["a digit two", "two"]]


def random_images(count=24, side=8):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def small_autoencoder():
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    )


def test_a_learned_tokenizer_has_clips_layout_and_knows_its_words():
    tokenizer = learn_tokenizer([prompt for row in WORDS for prompt in row], merges=20, length=8)
    ids = tokenizer.encode(["a digit one", "ONE", "", "néw"])
    bos, eos = ids[2, :2]
    assert eos == bos + 1
    assert eos >= 2 * 256
    assert ids[1].tolist() == [bos, ids[0, 3], *[eos] * 6]  # "one" is one token, in any case of letters
    assert (ids[2, 1:] == eos).all()
    assert len(set(ids[3].tolist())) == 6  # bos, n, two bytes of é, w at the end of a word, eos


def test_an_average_of_parameters_follows_its_recursion_and_starts_fast():
    average = {"w": jnp.zeros(())}
    for step in range(3):
        average = moving_average(average, {"w": jnp.ones(())}, jnp.int32(step), 0.999)
    # weights of the past 1/10, 2/11, 3/12: what is still missing to 1 is their product
    np.testing.assert_allclose(average["w"], 1 - (1 / 10) * (2 / 11) * (3 / 12), rtol=1e-6)


def test_latents_scaled_by_the_factor_have_unit_variance():
    module = small_autoencoder()
    parameters = jax.jit(module.initial)(jax.random.key(0))
    images = random_images()
    scale = latent_scale(module, parameters, images)
    mean, log_variance = module.apply({"params": parameters}, images / 127.5 - 1.0, method="encode")
    noise = np.random.default_rng(1).standard_normal((500, *mean.shape))
    samples = np.asarray(mean) + np.exp(np.asarray(log_variance) / 2) * noise
    # 500 draws of 1536 entries: the standard error of the deviation is below 0.1 percent
    np.testing.assert_allclose(scale * samples.std(), 1.0, rtol=5e-3)


def test_captions_are_dropped_at_the_asked_share_and_otherwise_of_the_own_class():
    training = DenoiserTraining(
        optimizer=AdamW(1e-3, 0.0),
        autoencoder=None,
        scaling_factor=1.0,
        prompt_ids=jnp.zeros((5, 3, 8), jnp.int32),
        empty_ids=jnp.zeros(8, jnp.int32),
        caption_dropout=0.25,
        alphas_cumprod=jnp.ones(10),
        vae=AutoencoderKL(),
        text_encoder=CLIPTextModel(),
        unet=UNet2DCondition(),
        steps=1,
    )
    labels = jnp.arange(20000) % 5
    chosen = np.asarray(training._prompt_numbers(labels, jax.random.key(0), jax.random.key(1)))
    dropped = chosen == 15
    np.testing.assert_allclose(dropped.mean(), 0.25, atol=0.0125)  # four standard errors
    np.testing.assert_array_equal(chosen[~dropped] // 3, np.asarray(labels)[~dropped])
    np.testing.assert_allclose(np.bincount(chosen[~dropped] % 3) / (~dropped).sum(), 1 / 3, atol=0.016)


@pytest.fixture(scope="module")
def trained():
    told = []
    training = {"batch_size": 8, "learning_rate": 1e-3, "weight_decay": 0.0, "warmup_steps": 2, "shift": 1}
    chosen = settings.GeneratorSettings(
        tokenizer=settings.TokenizerSettings(merges=10, length=8),
        autoencoder=settings.AutoencoderSettings((8, 8), 1, norm_num_groups=4, latent_channels=4),
        autoencoder_training=settings.AutoencoderTrainingSettings(steps=6, kl_weight=1e-4, **training),
        text_encoder=settings.TextEncoderSettings(hidden_size=16, layers=1, heads=2),
        unet=settings.UNetSettings((8, 8), 1, heads=2, norm_num_groups=4),
        denoiser_training=settings.DenoiserTrainingSettings(steps=4, caption_dropout=0.1, **training),
        seed=0,
        checkpoint_every=2,
    )
    model = train_pipeline(
        random_images(),
        np.arange(24, dtype=np.int32) % 2,
        WORDS,
        settings=chosen,
        checkpoints=lambda name: contextlib.nullcontext(),
        notify=lambda name, report: told.append((name, report)),
    )
    return model, told


@pytest.mark.slow
def test_a_trained_pipeline_is_complete_and_saved_and_loaded(trained, tmp_path):
    import jaxcil.diffusion as sd

    model, told = trained
    assert [(name, report.done, report.total) for name, report in told] == [
        *(("autoencoder", done, 6) for done in (2, 4, 6)),
        *(("denoiser", done, 4) for done in (2, 4)),
    ]
    assert model.unet.sample_size == 4
    assert model.vae.factor == 2
    sd.save(str(tmp_path), model, dtype=np.float32)
    loaded = sd.load(str(tmp_path))
    jax.tree.map(np.testing.assert_array_equal, loaded.parameters, jax.device_get(model.parameters))
    assert loaded.vae.scaling_factor == model.vae.scaling_factor


@pytest.mark.slow
def test_training_twice_gives_the_same_weights_bit_for_bit():
    # the training of `trained`, whose programs it shares
    module = small_autoencoder().clone(convolution=convolution.conv_general_dilated)
    training = objectives.AutoencoderTraining(AdamW(1e-3, 0.0, 2), 1e-4, module, 6, 1)
    data = LabelledImages(jnp.asarray(random_images()), jnp.arange(24) % 2)
    begin, program = jax.vmap(training.begin), loop.program(type(training).step)
    key, parts = jax.random.key(0)[None], [[Part(np.arange(24), 8)]]
    one, other = (
        loop.train(program, training, loop.begin(begin, key), data, parts, key, steps=4, chunk=2)
        for _ in range(2)
    )
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("part", ["autoencoder", "denoiser"])
def test_the_steps_are_exported_for_every_platform(part):
    vae = small_autoencoder()
    batch = LabelledImages(jnp.asarray(random_images(4)), jnp.arange(4) % 2)
    training = objectives.AutoencoderTraining(AdamW(1e-3, 0.0), 1e-4, vae, 4)
    if part == "denoiser":
        training = DenoiserTraining(
            optimizer=AdamW(1e-3, 0.0),
            autoencoder=jax.eval_shape(vae.initial, jax.random.key(0)),
            scaling_factor=1.0,
            prompt_ids=jnp.zeros((2, 2, 8), jnp.int32),
            empty_ids=jnp.zeros(8, jnp.int32),
            caption_dropout=0.1,
            alphas_cumprod=jnp.ones(10),
            vae=vae,
            text_encoder=CLIPTextModel(
                vocab_size=20,
                hidden_size=8,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=8,
            ),
            unet=UNet2DCondition(
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                block_out_channels=(8, 8),
                layers_per_block=1,
                attention_head_dim=2,
                cross_attention_dim=8,
                norm_num_groups=4,
            ),
            steps=4,
        )

    def step(training, batch, seed):
        key = jax.random.key(seed)
        return training.step(training.begin(key), batch, key)[1]

    exported = jax.export.export(jax.jit(step), platforms=("cpu", "cuda", "tpu"))(training, batch, 0)
    assert "squared_error" in str(exported.out_tree)
