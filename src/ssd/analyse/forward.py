"""The hidden states of a model at every position of the probe set.

N positions, D hidden size, T tokens, V vocabulary. Only the hidden states and the head are kept:
all logits, N x V, would take a hundred times the memory, so they are computed in parts later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from ssd.config.choices import Accelerator
from ssd.config.settings import HardwareConfig
from ssd.errors import HardwareError
from ssd.models.network import body, check_head, head, load
from ssd.records.samples import Sample
from ssd.run import Run, lineage
from ssd.runtime.progress import progress_bar


@dataclass(frozen=True, slots=True)
class States:
    """One model at every position, in fp32."""

    hidden: Tensor
    """(N, D) in main memory."""
    weight: Tensor
    """(V, D) the head, on the device that logits are made on."""
    bias: Tensor | None
    """(V,)"""

    def logits(self, part: slice) -> Tensor:
        """(B, V) of some of the positions, in fp32 whatever the network computed in."""
        return linear(self.hidden[part].to(self.weight.device), self.weight, self.bias)


def load_network(run: Run, model: str, step: int | None) -> Any:
    """One of the run's models as it was evaluated, in `analyse.dtype`, on the run's hardware.

    Raises:
        ArtifactError: it is not as it was exported.
        ModelError: its logits are not its head applied to its body.
        HardwareError: it does not fit the GPUs.
    """
    settings = run.config.analyse
    lineage.require_model(run, model, step)
    network = load(
        lineage.model_folder(run, model, step),
        getattr(torch, settings.dtype.value),
        **placement(run.config.hardware),
    )
    if "cpu" in (places := getattr(network, "hf_device_map", {}).values()) or "disk" in places:
        raise HardwareError(
            f"the {model} model does not fit the GPUs in analyse.dtype={settings.dtype.value}: "
            "use analyse.dtype=bfloat16 or more GPUs, or leave analyse out of stages"
        )
    adapter = lineage.adapter_folder(run, model, step)
    if adapter is not None:
        from peft import PeftModel

        network = PeftModel.from_pretrained(network, adapter)
    network.eval()
    check_head(network)
    return network


def placement(hardware: HardwareConfig) -> dict[str, Any]:
    """Where transformers puts the weights: main memory, the GPU, or spread over the GPUs."""
    if hardware.accelerator is not Accelerator.gpu:
        return {}
    return {"device_map": "auto" if (hardware.devices or 1) > 1 else {"": 0}}


@torch.inference_mode()
def read_states(network: Any, samples: Sequence[Sample], label: str) -> States:
    """The hidden states that predict each completion token.

    One completion at a time: padding, or another completion's length, would change the last digits.
    """
    device = network.get_input_embeddings().weight.device
    parts = []
    with progress_bar(label, len(samples), unit="completion") as bar:
        for sample in samples:
            ids = [*sample.prompt_token_ids, *sample.completion_token_ids[:-1]]
            states = body(network)(input_ids=torch.tensor([ids], device=device), use_cache=False)
            first = len(sample.prompt_token_ids) - 1  # predicts the first completion token
            parts.append(states.last_hidden_state[0, first:].float().cpu())  # (T, D)
            bar.update(1)
    layer = head(network)
    bias = None if layer.bias is None else layer.bias.detach().float()
    return States(torch.cat(parts), layer.weight.detach().float(), bias)
