"""The items of the check that read weights and architecture: each says one thing in one line."""

from collections import Counter
from typing import Any

from torch import nn

from ssd.arms import counted
from ssd.artifacts.store import library_versions
from ssd.check.engine import rank_fault, takes
from ssd.check.subject import Subject, some
from ssd.config.choices import AdapterType
from ssd.models.miniature import layer_kinds, miniature
from ssd.models.names import MODEL_CONFIG
from ssd.models.network import body, check_head, decoder_layers, head
from ssd.models.tensors import equal, read_headers
from ssd.models.weights import (
    has_experts,
    model_length,
    quantisation,
    require_trainable,
    weight_bytes,
)
from ssd.runtime.findings import Finding, State, ok, refused
from ssd.train.network import attention_layers, routers, stacked_experts
from ssd.train.rows import choose_rows

LOUD = 1000.0
"""Factor on the head's random weights: what caps logits at 30 or 50 leaves small ones alone."""


def files(subject: Subject) -> Finding:
    """Configuration and every weight file are whole."""
    headers = read_headers(subject.folder)
    size = weight_bytes(subject.folder) / 2**30
    where = "" if subject.whole else ", to be downloaded"
    return ok("files", f"{counted(len(headers), 'tensor')} in {size:.2f} GiB{where}")


def architecture(subject: Subject) -> Finding:
    """transformers has a causal language model for it."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    kind = type(subject.architecture)
    version = library_versions()["transformers"]
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return refused(
            "architecture",
            f"transformers {version} has no causal language model for model_type="
            f"{subject.architecture.model_type}: use a model that writes text",
        )
    name = MODEL_FOR_CAUSAL_LM_MAPPING[kind].__name__
    return ok("architecture", f"{name}, which transformers {version} knows")


def tensors(subject: Subject) -> Finding:
    """Every stored tensor is loaded, tied or carried over, and every parameter is stored."""
    if quantisation(subject.folder) not in (None, "mxfp4"):
        return ok("tensors", "quantised, as the line of the weights says")
    account = subject.account
    decoder_layers(account.skeleton)
    if account.missing:
        return refused(
            "tensors",
            f"{counted(len(account.missing), 'parameter')} of the architecture are in no file and "
            f"would be random ({some(account.missing)}): copy or download the model again",
        )
    if account.misshapen:
        return refused(
            "tensors",
            f"stored in other shapes than {MODEL_CONFIG} says: {some(account.misshapen, 2)}: use "
            "the configuration that these weights were saved with",
        )
    untied = _untied(subject)
    if untied is not None:
        return refused("tensors", untied)
    loaded = counted(len(account.stored) - len(account.passed_over), "tensor")
    tied = f", {len(account.tied)} tied" if account.tied else ""
    if not account.passed_over:
        return ok("tensors", f"{loaded} loaded{tied}")
    return Finding(
        item="tensors",
        state=State.note,
        text=f"{loaded} loaded{tied}; the export carries over {len(account.passed_over)} more, "
        f"unchanged: {_groups(account.passed_over)}",
    )


def head_and_loss(subject: Subject) -> Finding:
    """Logits are the head applied to the body, tried on a small copy of the architecture."""
    import torch

    try:
        network = miniature(subject.architecture)
    except Exception as error:  # the architecture's own, of any kind
        return Finding(
            item="head", state=State.note, text="not tried, because no small copy of "
            f"{subject.architecture.model_type} can be made ({type(error).__name__}): training "
            "tries it on the model itself",
        )  # fmt: skip
    with torch.no_grad():
        head(network).weight.mul_(LOUD)
    check_head(network)
    return ok("head", "logits are a linear layer of the hidden states, as the loss takes them")


def layers(subject: Subject) -> Finding:
    """The kinds of layers, and whether documents can share a row of training."""
    text = subject.architecture.get_text_config()
    counts = Counter(kind.replace("_", " ") for kind in layer_kinds(text))
    named = ", ".join(f"{kind} ({number})" for kind, number in counts.items())
    rows = choose_rows(subject.folder, subject.config.train, subject.config.hardware)
    if rows.note is not None:
        return Finding(item="layers", state=State.note, text=f"{named}; {rows.note}")
    if not rows.packed:
        return ok("layers", f"{named}; train.packing=false, one document a row")
    later = f"tried when training starts, a small copy fails ({rows.fault})"
    tried = "tried on a small copy" if rows.tried else later
    return ok("layers", f"{named}; documents share rows apart from each other, {tried}")


def adapter(subject: Subject) -> Finding:
    """The layers that adapters are put on."""
    settings = subject.config.adapter
    if settings.type is AdapterType.none:
        return ok("adapter", "none: all weights are trained")
    network = subject.account.skeleton
    text = body(network)
    targets = attention_layers(text) if routers(network) else _linear_layers(text)
    if settings.experts:
        targets += stacked_experts(text)
    if not targets:
        return refused("adapter", "no linear layer to adapt: use adapter=none")
    fault = rank_fault(subject)
    if fault is not None:
        return refused("adapter", fault)
    return ok("adapter", f"{settings.type.value} of rank {settings.rank} on {', '.join(targets)}")


def weights(subject: Subject) -> Finding:
    """Type, quantisation and context, and what training says to them."""
    require_trainable(subject.folder, subject.config)
    stored = Counter(str(header.dtype).removeprefix("torch.")
                     for header in read_headers(subject.folder).values())  # fmt: skip
    method, length = quantisation(subject.folder), model_length(subject.folder)
    parts = [
        f"stored in {stored.most_common(1)[0][0]}",
        *([f"quantised with {method}"] if method else []),
        f"used in {subject.config.model.dtype.value}",
        f"at most {length:,} tokens" if length else "no stated context length",
        *(["a mixture of experts"] if has_experts(subject.folder) else []),
    ]
    return ok("weights", ", ".join(parts))


def export(subject: Subject) -> Finding:
    """What a training leaves, and whether vLLM loads it."""
    settings, dtype = subject.config.adapter, subject.config.model.dtype.value
    alone = settings.type is not AdapterType.none and not settings.merge
    what = (
        "an adapter alone" if alone else f"a whole checkpoint in {dtype} with the names of the base"
    )
    if quantisation(subject.folder) == "mxfp4" and not alone:
        what += ", dequantised"
    return ok("export", f"{what}; vLLM {takes(subject)} it")


def _untied(subject: Subject) -> str | None:
    """What is wrong with a head that is stored beside the embedding it is tied to; None where
    nothing is, or before the numbers are here. Stored with other numbers, transformers keeps it and
    vLLM leaves it out."""
    if not subject.whole:
        return None
    for target, source in subject.account.tied.items():
        pair = [
            next((name for name in subject.account.stored if name.endswith(end)), None)
            for end in (target, ".".join(source.split(".")[-2:]))
        ]
        if pair[0] and pair[1] and not equal(subject.folder, pair[0], pair[1]):
            return (
                f"{pair[0]} and {pair[1]} differ, and {MODEL_CONFIG} ties them, which engines take "
                "differently: set tie_word_embeddings to false there"
            )
    return None


def _linear_layers(network: Any) -> list[str]:
    """Last names of the linear layers."""
    linear = [name for name, m in network.named_modules() if isinstance(m, nn.Linear)]
    return sorted({name.rsplit(".", 1)[-1] for name in linear})


def _groups(names: list[str]) -> str:
    """Tensor names by the two words they begin with: `mtp.* (15), model.visual.* (333)`."""
    counts = Counter(".".join(name.split(".")[:2]) for name in names)
    if len(names) <= 3:
        return ", ".join(names)
    return some([f"{group}.* ({number})" for group, number in counts.items()])
