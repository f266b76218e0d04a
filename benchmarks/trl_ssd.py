"""TRL's SSDTrainer on one job, in an environment that has TRL: a part of end_to_end.py.

    python benchmarks/trl_ssd.py JOB.json FIGURES.json

Nothing of TRL is changed; the subclass below only looks at the clock and counts tokens.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl.experimental.ssd import SSDConfig, SSDTrainer


class Timed(SSDTrainer):
    """SSDTrainer that keeps seconds, tokens, losses and the prompts it trained on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.seconds = self.step_seconds = 0.0
        self.sampled = self.trained = 0
        self.seen: list[list[int]] = []
        self.losses: list[float] = []
        super().__init__(*args, **kwargs)

    def _generate_completion_ids(self, prompts: list[Any]) -> Any:
        started = time.monotonic()
        ids, mask = super()._generate_completion_ids(prompts)
        self.seconds += time.monotonic() - started
        self.sampled += int(mask.sum())
        return ids, mask

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The trainer's own loss."""
        mask = inputs["prompt_mask"]
        self.seen += [
            row[kept].tolist() for row, kept in zip(inputs["prompt_ids"], mask.bool(), strict=True)
        ]
        self.trained += int(mask.sum() + inputs["completion_mask"].sum())
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        self.losses.append(float(loss.detach()))
        return loss


class Clock(TrainerCallback):
    """Seconds within optimizer steps, sampling included."""

    def __init__(self) -> None:
        self.seconds = self.began = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.began = time.monotonic()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop it."""
        self.seconds += time.monotonic() - self.began


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    clock = Clock()
    trainer = Timed(
        model=job["model"],
        args=settings(job),
        train_dataset=Dataset.from_list([{"prompt": messages} for messages in job["messages"]]),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        callbacks=[clock],
    )
    trainer.train()
    trainer.save_model(job["output"])
    if sorted(trainer.seen) != sorted(job["prompt_ids"]):
        sys.exit("error: TRL's prompts are not the job's, token by token")
    figures = {
        "sampling_seconds": trainer.seconds,
        "training_seconds": clock.seconds - trainer.seconds,
        "sampled_tokens": trainer.sampled,
        "trained_tokens": trainer.trained,
        "loss": trainer.losses[0],
        "gpu_gib": torch.cuda.max_memory_allocated() / 2**30 if job["device"] == "cuda" else 0.0,
    }
    Path(sys.argv[2]).write_text(json.dumps(figures))


def settings(job: dict[str, Any]) -> SSDConfig:
    """The job in SSDConfig's words; what `job["trl"]` leaves out stays at TRL's defaults."""
    return SSDConfig(
        output_dir=job["output"],
        max_steps=job["steps"],
        per_device_train_batch_size=job["batch"],
        temperature=job["temp"],
        top_k=job["top_k"] or 0,
        top_p=job["top_p"],
        max_completion_length=job["max_new_tokens"],
        max_prompt_length=max(map(len, job["prompt_ids"])),
        filter_empty=False,
        learning_rate=job["lr"],
        lr_scheduler_type="constant",
        adam_beta1=job["betas"][0],
        adam_beta2=job["betas"][1],
        weight_decay=job["weight_decay"],
        max_grad_norm=job["grad_clip"],
        seed=job["seed"],
        bf16=job["bf16"],
        use_cpu=job["device"] == "cpu",
        save_strategy="no",
        report_to="none",
        logging_steps=1,
        **job["trl"],
    )


if __name__ == "__main__":
    main()
