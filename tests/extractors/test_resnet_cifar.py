"""Both ResNet-32 of the field against arrays of the official code in float64: outputs, gradients, statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil import convolution
from jaxcil.extractors.resnet_cifar import ResNetCIFAR

both = pytest.mark.parametrize("name", ["resnet32", "cosine_resnet32"])
NAMES = {"weight": "scale", "running_mean": "mean", "running_var": "var"}


def path_of(name):
    """torch's "stage_1.0.bn_a.weight" -> collection, ("stage_1_0", "bn_a", "scale")."""
    *modules, leaf = name.replace("downsample.", "shortcut_").split(".")
    if len(modules) > 1 and modules[1].isdigit():
        modules[:2] = ["_".join(modules[:2])]
    if "conv" in modules[-1]:
        return "params", (*modules, "kernel")
    return "batch_stats" if "running" in leaf else "params", (*modules, NAMES.get(leaf, leaf))


def drawn(golden, network):
    """Variables and head of the golden file's rule; torch's arrays, in our layout."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    variables, head = jax.tree.map(lambda leaf: leaf, shapes), {}
    for position, name in enumerate(golden["state_names"]):
        draw = np.random.default_rng([int(golden["seed_weights"]), position]).standard_normal
        if name.startswith("fc."):
            shape = {"fc.weight": (10, 64), "fc.bias": (10,), "fc.sigma": (1,)}[name]
            a = draw(shape)
            head[name] = {"fc.weight": a / 8, "fc.sigma": np.full(1, 4.0)}.get(name, 0.1 * a)
            continue
        collection, path = path_of(name)
        node, shape = variables[collection], shapes[collection]
        for part in path[:-1]:
            node, shape = node[part], shape[part]
        shape = shape[path[-1]].shape
        if path[-1] == "kernel":
            height, width, inputs, outputs = shape
            a = draw((outputs, inputs, height, width)) * np.sqrt(2 / (outputs * height * width))
            node[path[-1]] = a.transpose(2, 3, 1, 0)
        else:
            a = draw(shape)
            node[path[-1]] = {"scale": 1 + 0.1 * a, "var": 1 + 0.1 * np.abs(a)}.get(path[-1], 0.1 * a)
    return variables, head


def leaf(variables, name):
    """What the golden file calls by that name, in torch's layout."""
    collection, path = path_of(name)
    node = variables[collection]
    for part in path:
        node = node[part]
    return node.transpose(3, 2, 0, 1) if path[-1] == "kernel" else node


def logits(features, head):
    if "fc.sigma" not in head:
        return features @ head["fc.weight"].T + head["fc.bias"][None]
    directions = [a / jnp.linalg.norm(a, axis=1, keepdims=True) for a in (features, head["fc.weight"])]
    return head["fc.sigma"][None] * (directions[0] @ directions[1].T)


def made(arrays, network):
    """The golden arrays of a network, the network, its variables and head, and the images."""
    golden = {name.removeprefix(f"{network}/"): array for name, array in arrays.items()}
    options = {"shortcut": "B", "last_relu": False} if network == "cosine_resnet32" else {}
    network = ResNetCIFAR(convolution=convolution.conv_general_dilated, **options)
    images = np.random.default_rng(int(golden["seed_input"])).standard_normal(
        (int(golden["batch"]), 3, 32, 32)
    )
    np.testing.assert_array_equal(images.ravel()[:8], golden["input_first8"])
    return golden, network, *drawn(golden, network), images.transpose(0, 2, 3, 1)


@both
def test_outputs_gradients_and_statistics_are_those_of_the_official_network(name, full_golden, x64):
    with np.load(full_golden / "incremental" / "resnet32.npz") as file:
        golden, network, variables, head, images = made(dict(file), name)

    def loss(parameters):
        params, head = parameters
        features, changed = network.apply(
            {"params": params, "batch_stats": variables["batch_stats"]},
            images,
            train=True,
            mutable=["batch_stats"],
        )
        scores = logits(features, head)
        value = -jnp.take_along_axis(jax.nn.log_softmax(scores), golden["labels"][:, None], axis=1).mean()
        return value, (features, scores, changed["batch_stats"])

    parameters = (variables["params"], head)
    (value, (features, scores, statistics)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        parameters
    )

    def close(ours, name):  # float64 sums over up to 1e5 numbers, through 32 layers
        np.testing.assert_allclose(
            ours, golden[name], rtol=1e-10, atol=1e-10 * np.abs(golden[name]).max(), err_msg=name
        )

    close(value, "train_loss")
    close(features, "train_features")
    close(scores, "train_logits")
    gradients = [
        np.asarray(gradient[1][name] if name.startswith("fc.") else leaf({"params": gradient[0]}, name))
        for name in golden["param_names"]
    ]
    close([np.linalg.norm(g) for g in gradients], "grad_norm")
    close([g.sum() for g in gradients], "grad_sum")
    close([np.pad(g.ravel(), (0, 4))[:4] for g in gradients], "grad_first4")
    named = dict(zip(golden["param_names"], gradients))
    close(named["conv_1_3x3.weight"], "grad_conv_1_3x3")
    close(named["fc.weight"], "grad_fc_weight")
    close(named["stage_2.0.conv_a.weight"], "grad_stage_2_0_conv_a")
    names = golden["running_mean_names"]
    after = {"batch_stats": statistics}
    close(np.concatenate([leaf(after, name) for name in names]), "running_mean_after")
    variances = [leaf(after, name.replace("running_mean", "running_var")) for name in names]
    close(np.concatenate(variances), "running_var_after")

    updated = jax.tree.map(
        lambda p, g: p - 0.1 * (g + 5e-4 * p), parameters, gradient
    )  # the first step of momentum
    stepped = network.apply({"params": updated[0], "batch_stats": statistics}, images)
    close(stepped, "eval_features_after_step")


@both
def test_evaluation_and_the_maps_of_the_stages_are_those_of_the_official_network(name, golden, x64):
    golden, network, variables, head, images = made(golden("incremental/resnet32_evaluation.npz"), name)
    features, sown = jax.jit(lambda v, x: network.apply(v, x, mutable=["intermediates"]))(variables, images)
    maps = [sown["intermediates"][f"stage_{stage}"][0] for stage in (1, 2)]
    for ours, name in (
        (features, "eval_features"),
        (logits(features, head), "eval_logits"),
        (maps[0].mean((1, 2)), "eval_fmap1_spatial_mean"),
        (maps[1].mean((1, 2)), "eval_fmap2_spatial_mean"),
    ):
        np.testing.assert_allclose(
            ours, golden[name], rtol=1e-10, atol=1e-10 * np.abs(golden[name]).max(), err_msg=name
        )
