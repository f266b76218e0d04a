"""Decoder layers under torch.compile, one by one, and the way back where the compiler fails."""

import functools
import logging
import os
from collections.abc import Iterable
from typing import Any

import torch
import torch._dynamo
import torch._functorch.config
import torch._inductor.config
import torch.fx.experimental._config
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

DISABLED = "TORCHDYNAMO_DISABLE"
RECOMPILE_LIMIT = 16
"""Graphs of one kind of layer. A training needs two to four: rows with and without neighbours,
layers with and without a window. More would mean that something is compiled anew in every row."""

REASON_LENGTH = 300
QUIET = ("torch._dynamo", "torch._inductor", "torch._subclasses", "torch._higher_order_ops")
"""Loggers that print pages about a failure that `CompiledLayers.failure` states in one line."""


class CompiledLayers:
    """A model's decoder layers, each compiled when it first runs.

    Their `forward` is replaced, so parameters keep their names, and hooks, FSDP2's among them, stay
    outside of what is compiled.
    """

    def __init__(self, layers: Iterable[Any], backend: str = "inductor") -> None:
        torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
        # Compile the backward pass with the forward pass, so that nothing fails half-way.
        torch._functorch.config.force_non_lazy_backward_lowering = True
        # Lengths that happen to equal a width say nothing about the next row.
        torch.fx.experimental._config.use_duck_shape = False
        torch._inductor.config.fallback_random = True  # dropout draws what it draws eagerly
        # DDP would split a layer's graph to exchange gradients within it.
        torch._dynamo.config.optimize_ddp = False
        if "TORCH_LOGS" not in os.environ:
            for name in QUIET:
                logging.getLogger(name).setLevel(logging.CRITICAL)
        self.failure: str | None = None
        """Why the compiler failed in this process."""
        if os.environ.get(DISABLED) == "1":
            self.failure = f"{DISABLED}=1"  # torch.compile would silently do nothing
        self.forwards = [CompiledForward(layer, self, backend) for layer in layers]

    def give_up(self) -> None:
        """Go on without compiling."""
        for forward in self.forwards:
            forward.compiled = None


class CompiledForward:
    """A layer's forward pass, compiled wherever it is differentiated.

    The compiler runs before any of the layer does. Where it fails the same call goes on eagerly,
    which computes the same and keeps several processes in step.
    """

    def __init__(self, layer: Any, layers: CompiledLayers, backend: str) -> None:
        self.layers = layers
        self.eager = layer.forward
        recompute: Any = getattr(layer, "_gradient_checkpointing_func", None)
        if getattr(layer, "gradient_checkpointing", False) and "context_fn" in recompute.keywords:
            # Selective recomputation watches single operations, so it has to be compiled with them;
            # full recomputation stays around the compiled layer, as transformers calls it.
            layer.gradient_checkpointing = False
            self.eager = recomputed(recompute, self.eager)
        self.compiled: Any = torch.compile(
            self.eager,
            backend=backend,
            dynamic=True,  # from the first row on: rows differ in length
            fullgraph=True,  # breaks and too many graphs are failures, not silently eager
        )
        self.has_run = False
        layer.forward = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # After a failure elsewhere, a layer that has run compiled stays compiled until the step's
        # end: its recomputation must repeat what it did before.
        unwanted = self.layers.failure is not None and not self.has_run
        if self.compiled is None or unwanted or not torch.is_grad_enabled():
            return self.eager(*args, **kwargs)
        try:
            output = self.compiled(*args, **kwargs)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            self.layers.failure = reason(error)
            self.compiled = None
            return self.eager(*args, **kwargs)
        self.has_run = True
        return output


def recomputed(recompute: Any, forward: Any) -> Any:
    """`forward` within torch's checkpoint, as a function, which the compiler knows how to enter."""

    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        return recompute(functools.partial(forward, **kwargs), *args)

    return checkpointed


def reason(error: BaseException) -> str:
    """The innermost cause of a compiler's failure, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    # Dynamo explains itself in its second line, a C++ compiler somewhere among many.
    telling = [line for line in lines if line.startswith("Explanation:") or "error:" in line]
    sentence = " ".join([lines[0], *telling[:1]])
    if len(sentence) > REASON_LENGTH:
        sentence = f"{sentence[: REASON_LENGTH // 2]} ... {sentence[-REASON_LENGTH // 2 :]}"
    return f"{type(error).__name__}: {sentence}"
