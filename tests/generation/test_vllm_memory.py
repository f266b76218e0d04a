import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ssd.config.choices import Accelerator
from ssd.config.settings import HardwareConfig
from ssd.generation.vllm_memory import cache_blocks
from ssd.models import Weights

GPU = HardwareConfig(accelerator=Accelerator.gpu, devices=1, max_num_seqs=256)
QWEN3_4B = {
    "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "hidden_size": 2560, "max_position_embeddings": 262144,
}  # fmt: skip


@pytest.fixture
def h200(show_gpus: Callable[[str, int, int], None]) -> None:
    """A machine whose nvidia-smi shows one GPU of 141 GB."""
    show_gpus("NVIDIA H200", 143771, 1)


def checkpoint(folder: Path, **config: object) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"0" * 1000)
    return folder


@pytest.mark.usefixtures("h200")
def test_a_small_model_gets_no_more_cache_than_its_sequences_can_use(
    tiny_weights: Weights,
) -> None:
    folder = Path(tiny_weights.path)
    assert cache_blocks(folder, GPU, 512) == 256 * 512 // 16 + 1
    assert cache_blocks(folder, GPU, 500) == 256 * 512 // 16 + 1  # whole blocks


@pytest.mark.usefixtures("h200")
def test_where_sequences_can_use_all_memory_vllm_decides(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, **QWEN3_4B)
    assert cache_blocks(folder, GPU, None) is None
    assert cache_blocks(folder, GPU, 40960) is None
    assert cache_blocks(folder, GPU, 128) == 256 * 8 + 1


def test_the_cache_on_cpu_keeps_to_the_room_that_is_set_for_it(tiny_weights: Weights) -> None:
    folder = Path(tiny_weights.path)
    cpu = HardwareConfig(accelerator=Accelerator.cpu, devices=1, max_num_seqs=64, kv_cache_gib=1)
    assert cache_blocks(folder, cpu, 512) == 64 * 512 // 32 + 1


def test_layers_that_keep_different_things_are_left_to_vllm(tmp_path: Path) -> None:
    mixed = ["sliding_attention", "full_attention"]
    assert cache_blocks(checkpoint(tmp_path, **QWEN3_4B, layer_types=mixed), GPU, 128) is None
