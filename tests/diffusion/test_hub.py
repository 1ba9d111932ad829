"""Models by name: against a hub on this machine, and a cache without a hub."""

import functools
import http.server
import json
import pathlib
import threading
import urllib.parse

import huggingface_hub
import jax
import numpy as np
import pytest
from huggingface_hub import constants, hf_api

import jaxcil.diffusion as sd
from jaxcil.diffusion import hub
from jaxcil.errors import InputError

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHERS = ("README.md", "unet/diffusion_pytorch_model.bin", "safety_checker/model.safetensors", "v1-5.ckpt")


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's interface as a download needs: one model of tests, one gated, one of pickles."""

    given: list[str]

    def do_GET(self):
        """Descriptions, lists of files, files."""
        path = urllib.parse.urlparse(urllib.parse.unquote(self.path)).path
        names = [str(file.relative_to(SD1)) for file in SD1.rglob("*") if file.is_file()]
        names += OTHERS
        if path.startswith("/api/models/tests/absent"):
            self.answer(404, {}, {"X-Error-Code": "RepoNotFound"})
        elif path.startswith("/api/models/tests/pickles"):
            names = ["model_index.json", *(f"{part}/{part}.bin" for part in ("unet", "vae", "text_encoder"))]
            self.answer(
                200, {"id": "tests/pickles", "sha": COMMIT, "siblings": [{"rfilename": n} for n in names]}
            )
        elif path.startswith("/tests/gated/resolve"):
            self.answer(403, {}, {"X-Error-Code": "GatedRepo"})
        elif "/revision/" in path and not path.endswith(("/main", COMMIT)):
            self.answer(404, {}, {"X-Error-Code": "RevisionNotFound"})
        elif "/tree/" in path:
            listing = [
                {"type": "file", "path": name, "size": len(content(name)), "oid": name} for name in names
            ]
            self.answer(200, listing)
        elif path.startswith("/api/models/"):
            self.answer(
                200, {"id": path[12:], "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
            )
        elif "/resolve/" in path:
            name = path.partition(f"/resolve/{COMMIT}/")[2]
            if self.command == "GET":
                self.given.append(name)
            self.answer(200, content(name), {"ETag": f'"{name.replace("/", "-")}"', "X-Repo-Commit": COMMIT})
        else:
            self.answer(404, {})

    do_HEAD = do_GET

    def answer(self, status, body, headers=()):
        """Sends a status, headers, and bytes or JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *args):
        """Says nothing."""


@functools.cache
def content(name):
    return (SD1 / name).read_bytes() if (SD1 / name).is_file() else b"never to be fetched"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub, which itself is switched off."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


@pytest.fixture
def local_hub(cache, monkeypatch):
    """A hub on this machine, and the names of the files that it has given away."""
    given = []
    handler = type("LocalHub", (Hub,), {"given": given})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(hf_api.api, "endpoint", constants.ENDPOINT)  # diffusers asks this one
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}",
        )
        yield given
        server.shutdown()
        thread.join()


def test_a_model_is_fetched_once_without_what_is_not_needed_and_then_read_without_a_network(
    local_hub, cache, monkeypatch
):
    folder, commit = hub.resolve("tests/model")
    assert commit == COMMIT
    needed = sorted(
        str(file.relative_to(SD1)) for file in SD1.rglob("*") if file.is_file() and file.suffix != ".npz"
    )
    assert sorted(local_hub) == needed
    assert hub.resolve("tests/model", COMMIT) == (folder, commit)
    assert len(local_hub) == len(needed)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.resolve("tests/model") == (folder, commit)
    one, two = sd.load("tests/model"), sd.load(SD1)
    assert jax.tree.all(jax.tree.map(np.array_equal, one.parameters, two.parameters))
    with pytest.raises(InputError, match="is not asked, because HF_HUB_OFFLINE"):
        sd.load("tests/model", revision="another")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tests/absent", {}, "neither a folder here nor a public model"),
        ("tests/gated", {}, "accept its terms on https://huggingface.co/tests/gated"),
        ("tests/model", {"revision": "flux"}, "tests/model has no revision 'flux'"),
        ("tests/model", {"variant": "fp16"}, "variant 'fp16' in tests/model/unet; its variants: none"),
        ("tests/pickles", {}, r"unet\.bin: pickles .* jaxcil convert-pipeline"),
        ("tests/a--b", {}, "cannot be the name of a model"),
    ],
    ids=["unknown", "gated", "revision", "variant", "pickles", "name"],
)
def test_what_the_hub_does_not_give_is_named(local_hub, name, options, message):
    with pytest.raises(InputError, match=message):
        sd.load(name, **options)
    assert not local_hub


def test_without_a_network_and_without_a_copy_both_are_named(cache, monkeypatch):
    with pytest.raises(InputError, match=r"'tests/model' is not a folder here.*HF_HUB_OFFLINE is set"):
        sd.load("tests/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens at the port for rubbish
    with pytest.raises(InputError, match="cannot be reached"):
        sd.load("tests/model")


def test_a_hub_that_does_not_say_what_there_is_leaves_the_cache_alone(local_hub, monkeypatch):
    def late(*args, **options):
        raise TimeoutError("the read operation timed out")

    with monkeypatch.context() as slow:
        slow.setattr(huggingface_hub.HfApi, "model_info", late)
        with pytest.raises(InputError, match=r"cache does not hold it; the hub itself cannot be reached"):
            sd.load("tests/model")
        assert not local_hub  # a part of a model would pass for a whole one
    folder = hub.resolve("tests/model")
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", late)
    assert hub.resolve("tests/model") == folder


def test_a_download_that_breaks_off_says_that_it_goes_on(local_hub, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("connection lost")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    with pytest.raises(InputError, match=r"connection lost.*try again to resume"):
        hub.resolve("tests/model")


@pytest.mark.filterwarnings("default")  # torch's libraries warn of many things of their own
def test_a_model_of_the_hub_is_converted_without_fetching_what_is_not_needed(local_hub, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("peft")
    from jaxcil.diffusion.convert import convert

    convert("tests/model", tmp_path / "target", "float32")
    one, two = sd.load(tmp_path / "target"), sd.load(SD1)
    assert jax.tree.all(jax.tree.map(np.array_equal, one.parameters, two.parameters))
    assert one.scheduler == two.scheduler
    assert not {name for name in OTHERS if name != "README.md"} & set(local_hub)
    with pytest.raises(InputError, match="tests/absent cannot be converted"):
        convert("tests/absent", tmp_path / "other")
    assert not (tmp_path / "other").exists()


# Files of released repositories that hold the same weights in many forms.
RELEASED = [
    "README.md",
    "v1-5-pruned.ckpt",
    "v1-5-pruned.safetensors",
    "model_index.json",
    "feature_extractor/preprocessor_config.json",
    "safety_checker/config.json",
    "safety_checker/model.safetensors",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/model.safetensors",
    "text_encoder/pytorch_model.bin",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
]
SMALL = {
    name for name in RELEASED if name.endswith(("config.json", "index.json", "merges.txt", "vocab.json"))
}
SMALL -= {"feature_extractor/preprocessor_config.json", "safety_checker/config.json"}


@pytest.mark.parametrize(("variant", "tag"), [(None, ""), ("fp16", ".fp16")], ids=["plain", "fp16"])
def test_of_many_forms_of_the_weights_one_is_needed(variant, tag):
    weights = {
        f"text_encoder/model{tag}.safetensors",
        f"unet/diffusion_pytorch_model{tag}.safetensors",
        f"vae/diffusion_pytorch_model{tag}.safetensors",
    }
    assert set(hub.needed_files(RELEASED, variant, "it")) == SMALL | weights


def test_of_a_repository_of_flax_the_msgpack_files_are_needed():
    files = {
        "unet/diffusion_flax_model.msgpack",
        "vae/diffusion_flax_model.msgpack",
        "text_encoder/flax_model.msgpack",
    }
    there = SMALL | files | {"safety_checker/flax_model.msgpack", "unet/diffusion_pytorch_model.bin"}
    assert set(hub.needed_files(there, None, "it")) == SMALL | files


def test_the_default_is_the_name_of_a_model_and_paths_are_none():
    assert hub.is_name(hub.DEFAULT_MODEL)
    assert not any(
        hub.is_name(text) for text in ("digits", "./a/b", "../b", "/a/b", "a/b/c", "~/b", "C:\\a/b", "")
    )
