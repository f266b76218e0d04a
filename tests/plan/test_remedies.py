"""What does not fit is told what makes it fit: each offer is planned again and fits."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import compose_config

from ssd.config.choices import Recompute
from ssd.plan.misfits import ANALYSIS, DISK, ENGINE, TRAINING
from ssd.plan.plan import Plan, make_plan

GPU = "hardware=gpu_1"
SHORT = ("experiment=short", GPU)
SPREAD = ("model=qwen3_30b", "hardware=gpu_8")


def planned(folder: Path, *overrides: str, free: float | None = None) -> Plan:
    return make_plan(compose_config(f"output_dir={folder}", *overrides), folder, free)


def offers(message: str) -> list[str]:
    """The commands of a message, in its order."""
    listed = message.partition("in the order to try: ")[2]
    texts = re.split(r"(?:^|; )\d\. ", listed)[1:]
    return [text.partition(" (")[0] for text in texts if "=" in text.split()[0]]


@pytest.mark.parametrize(
    ("what", "overrides"),
    [
        (TRAINING, ("model=qwen3_4b", GPU)),
        (TRAINING, ("model=qwen3_30b", "hardware=gpu_8")),
        (TRAINING, ("model=llama31_8b", GPU)),
        (TRAINING, ("model=gpt_oss_20b", "hardware=gpu_8")),
        (TRAINING, ("model=qwen3_4b", "hardware=gpu_8", "hardware.activation_checkpointing=none")),
        (TRAINING, ("model=qwen3_4b", "hardware=gpu_8", "hardware.recompute_layers=4")),
        (TRAINING, ("model=qwen3_4b", "hardware=gpu_8", "hardware.strategy=ddp")),
        (TRAINING, ("model=smollm2_135m", "hardware=cpu", "plan.device_memory_gib=3.5")),
        (ENGINE, ("model=qwen3_4b", GPU, "plan.device_memory_gib=24")),
        (ENGINE, (*SPREAD, "hardware.tensor_parallel_size=1", "plan.device_memory_gib=60")),
        (ENGINE, ("model=qwen3_4b", "hardware=cpu", "plan.device_memory_gib=500")),
        (ANALYSIS, ("model=qwen3_4b", "adapter=qlora", *SHORT, "plan.device_memory_gib=16")),
    ],
)
def test_every_offer_makes_it_fit(what: str, overrides: tuple[str, ...], tmp_path: Path) -> None:
    message = planned(tmp_path, *overrides).misfits[what]
    commands = offers(message)
    assert commands
    for command in commands:
        assert what not in planned(tmp_path, *overrides, *shlex.split(command)).misfits, command


def test_recomputation_in_all_layers_is_offered_where_few_are_typed(tmp_path: Path) -> None:
    for typed in ((), ("hardware.activation_checkpointing=full",)):
        few = ("model=qwen3_4b", "hardware=gpu_8", "hardware.recompute_layers=4", *typed)
        message = planned(tmp_path, *few).misfits[TRAINING]
        assert offers(message)[0] == "hardware.recompute_layers=null"


def test_an_offer_for_the_cards_that_are_there_can_be_typed(
    tmp_path: Path, show_gpus: Callable[[str, int, int], None]
) -> None:
    show_gpus("NVIDIA GeForce RTX 4090", 24_564, 8)
    here = ("model=llama31_8b", "experiment=short")  # hardware=auto: 8 GPUs that nobody has typed
    commands = offers(planned(tmp_path, *here).misfits[TRAINING])
    assert "hardware.cpu_offload=true" in commands
    assert TRAINING not in planned(tmp_path, *here, "hardware.cpu_offload=true").misfits


def test_full_fine_tuning_of_4b_on_one_card_of_80_gib_is_offered_before_a_second_card(
    tmp_path: Path,
) -> None:
    message = planned(tmp_path, "model=qwen3_4b", GPU, "plan.device_memory_gib=80").misfits
    commands = offers(message[TRAINING])
    assert commands[0] == "hardware.offload_activations=true optimizer=adamw8bit"
    assert "optimizer=adamw8bit train.seq_len=32768" in commands
    assert commands.index("hardware.devices=2") > commands.index("adapter=lora") > 2
    assert "moments in 8 bits" in message[TRAINING]


def test_a_mixture_of_30b_on_eight_cards_of_80_gib_is_told_what_goes_with_them(
    tmp_path: Path,
) -> None:
    typed = ("model=qwen3_30b", "hardware=gpu_8_80gb", "plan.device_memory_gib=80")
    message = planned(tmp_path, *typed).misfits[TRAINING]
    assert offers(message)[0] == "optimizer=adamw8bit_sharded"
    for gib in (80, 79.1):  # as nvidia-smi reports an H100's
        memory = f"plan.device_memory_gib={gib}"
        plan = planned(tmp_path, *typed, memory, "optimizer=adamw8bit_sharded")
        assert not plan.misfits and plan.tight is None
        assert plan.config.hardware.activation_checkpointing is Recompute.full
        assert plan.config.hardware.micro_batch_tokens == 65_536


def test_nothing_is_offered_that_holds_another_offer_whole(tmp_path: Path) -> None:
    message = planned(tmp_path, "model=qwen3_30b", "hardware=gpu_8").misfits[TRAINING]
    parts = [set(command.split()) for command in offers(message)]
    assert not any(one < other for one in parts for other in parts)


def test_a_disk_that_is_too_small_is_told_smaller_checkpoints(tmp_path: Path) -> None:
    typed = ("model=qwen3_4b", GPU, "train.keep_checkpoints=null", "plan.device_memory_gib=141")
    needed = sum(planned(tmp_path, *typed).disk.values())
    assert DISK not in planned(tmp_path, *typed).misfits  # another machine's is not known
    assert DISK not in planned(tmp_path, *typed, free=needed + 2**31).misfits
    message = planned(tmp_path, *typed, free=needed - 2**30).misfits[DISK]
    assert "output_dir=OTHER_FOLDER" in message
    commands = [command for command in offers(message) if "OTHER" not in command]
    assert commands[0] == "train.keep_checkpoints=1"
    again = planned(tmp_path, *typed, *commands[0].split(), free=needed - 2**30)
    assert DISK not in again.misfits
