"""The LightningModule: model, objective, optimizer and schedule."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ssd.artifacts import plain
from ssd.config import AdapterConfig, AdapterType, HardwareConfig, OptimizerConfig, TrainConfig
from ssd.errors import ModelError, SSDError
from ssd.train.loss import IGNORE, weighted_cross_entropy


def learning_rate_factor(step: int, *, warmup_steps: int, max_steps: int, floor: float) -> float:
    """Share of the peak learning rate at `step` (from 0): linear warm-up,
    then cosine to `floor` at the last step."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(max_steps - 1 - warmup_steps, 1)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices; none on norms and biases, which are vectors."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]


class CompletionLoss(nn.Module):
    """A causal language model and the loss of its completions; the root that sharding wraps, so
    that one forward call gathers body and head together."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Weighted sum of cross-entropies over the micro-batch's loss tokens."""
        hidden = self.body(
            input_ids=batch["input_ids"], use_cache=False
        ).last_hidden_state  # (B, T, D)
        return weighted_cross_entropy(hidden, self.head, batch["labels"], batch["weights"])

    @property
    def model(self) -> Any:
        """The transformers model, inside its adapter where there is one."""
        return (
            self.network.get_base_model()
            if hasattr(self.network, "get_base_model")
            else self.network
        )

    @property
    def body(self) -> Any:
        """The model without its head."""
        return getattr(self.model, self.model.base_model_prefix)

    @property
    def head(self) -> Any:
        """Maps hidden states to logits."""
        return self.model.get_output_embeddings()

    @torch.no_grad()
    def check_head(self) -> None:
        """Raise `ModelError` where the model does more to its logits than apply its head."""
        ids = torch.arange(1, 9, device=self.head.weight.device)[None]  # (1, 8)
        logits = self.model(input_ids=ids, use_cache=False).logits
        hidden = self.body(input_ids=ids, use_cache=False).last_hidden_state
        if not torch.allclose(self.head(hidden), logits, atol=1e-4, rtol=1e-4):
            raise ModelError(
                f"model.name: {type(self.model).__name__} scales or caps its logits, "
                "which training would miss: this architecture is not supported"
            )


def load_network(folder: Path, adapter: AdapterConfig, *, checkpointing: bool) -> Any:
    """The model in fp32 (bf16 weights lose small updates), ready to train."""
    from transformers import AutoModelForCausalLM

    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if checkpointing:
        network.gradient_checkpointing_enable({"use_reentrant": False})
    if adapter.type is AdapterType.lora:
        from peft import LoraConfig, get_peft_model

        lora = LoraConfig(
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            lora_dropout=adapter.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        network.enable_input_require_grads()
        network = get_peft_model(network, lora)
    return network.train()


class SelfDistillation(LightningModule):
    """Fine-tuning on the model's own samples."""

    def __init__(
        self,
        folder: Path,
        adapter: AdapterConfig,
        optimizer: OptimizerConfig,
        train: TrainConfig,
        hardware: HardwareConfig,
    ) -> None:
        super().__init__()
        self.folder = folder
        self.adapter = adapter
        self.optimizer_config = optimizer
        self.train_config = train
        self.hardware = hardware
        self.loss: CompletionLoss | None = None
        self._step_loss = 0.0
        self._step_tokens = 0
        self._step_started = time.monotonic()
        self.grad_norm = self.learning_rate = float("nan")

    def configure_model(self) -> None:
        """Load the weights, and shard them per decoder layer
        where the strategy is model-parallel (FSDP2)."""
        if self.loss is not None:
            return
        network = load_network(
            self.folder, self.adapter, checkpointing=self.hardware.activation_checkpointing
        )
        self.loss = CompletionLoss(network)
        self.loss.check_head()
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            from torch.distributed.fsdp import fully_shard

            assert self.device_mesh is not None
            mesh = self.device_mesh["data_parallel"]
            for layer in self.loss.body.layers:
                fully_shard(layer, mesh=mesh)
            fully_shard(self.loss, mesh=mesh)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """The micro-batch's share of its step's loss."""
        assert self.loss is not None
        loss: Tensor = self.loss(batch)
        self._step_loss += loss.item()
        self._step_tokens += int((batch["labels"] != IGNORE).sum())
        # Lightning divides by the accumulation and averages gradients over ranks;
        # the weights already sum to 1.
        return loss * float(self.trainer.accumulate_grad_batches * self.trainer.world_size)

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: Any, **__: Any) -> None:
        """Clip the norm over all shards, and refuse to go on from a gradient that is not finite.

        Raises:
            SSDError: the norm is infinite or not a number.
        """
        self.learning_rate = float(optimizer.param_groups[0]["lr"])
        norm = nn.utils.clip_grad_norm_(
            [p for p in self.parameters() if p.requires_grad], self.train_config.grad_clip
        )
        self.grad_norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        if not math.isfinite(self.grad_norm):
            raise SSDError(
                f"step {self.global_step + 1}: gradient norm is {self.grad_norm}; "
                "lower optimizer.lr, or set train.precision=fp32. The last checkpoint is kept"
            )

    def take_metrics(self) -> dict[str, float]:
        """Metrics of the optimizer step just taken, over all ranks; counting starts anew."""
        now = time.monotonic()
        totals = torch.tensor([self._step_loss, self._step_tokens], dtype=torch.float64)
        loss, tokens = self._sum_over_ranks(totals).tolist()
        seconds = now - self._step_started
        self._step_loss, self._step_tokens, self._step_started = 0.0, 0, now
        return {
            "train/loss": loss,
            "train/lr": self.learning_rate,
            "train/grad_norm": self.grad_norm,
            "train/num_loss_tokens": tokens,
            "train/tokens_per_second": tokens / seconds,
        }

    def _sum_over_ranks(self, values: Tensor) -> Tensor:
        if self.trainer.world_size > 1:
            values = values.to(self.device).float()
            torch.distributed.all_reduce(values)
        return values

    def configure_optimizers(self) -> dict[str, Any]:
        """The configured optimizer under linear warm-up and cosine decay to `train.min_lr`."""
        assert self.loss is not None
        settings = plain(self.optimizer_config)
        groups = parameter_groups(self.loss, settings.pop("weight_decay"))
        optimizer = instantiate(settings, params=groups, _convert_="all")
        train = self.train_config

        def factor(step: int) -> float:
            return learning_rate_factor(
                step,
                warmup_steps=train.warmup_steps,
                max_steps=train.max_steps,
                floor=train.min_lr / self.optimizer_config.lr,
            )

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
        }
