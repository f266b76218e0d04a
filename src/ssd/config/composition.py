"""Hydra's side: the schema it composes against, the run's name, and its errors in one line."""

import dataclasses
import hashlib
import re
import typing

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssd.config.settings import RunConfig
from ssd.errors import ConfigError, did_you_mean, one_line

UNNAMED = (
    "study", "run_name", "output_dir", "stages", "plan", "report", "logger", "hardware", "hydra",
)  # fmt: skip
"""Settings that do not change a run's numbers, and so not its name."""
MAX_NAME = 180
SWEPT = (
    "model",
    "sampler.temp",
    "truncation",
    "truncation.top_k",
    "truncation.top_p",
    "optimizer.lr",
    "seed",
)
"""Settings that sweeps vary, which stand first in a name that is cut."""


def register() -> None:
    """Make the schema and the resolver known to Hydra."""
    ConfigStore.instance().store(name="run_config", node=RunConfig)
    OmegaConf.register_new_resolver("run_slug", run_slug, replace=True)


def run_slug(overrides: list[str]) -> str:
    """A folder name made of the overrides, `defaults` where there are none,
    cut with a hash where it is long."""
    named = sorted(text for text in overrides if setting_of(text).split(".")[0] not in UNNAMED)
    slug = _slug(named)
    if len(slug) <= MAX_NAME:
        return slug
    first = sorted(named, key=lambda text: setting_of(text) not in SWEPT)  # what a cut would hide
    return f"{_slug(first)[: MAX_NAME - 9]}-{hashlib.sha256(slug.encode()).hexdigest()[:8]}"


def setting_of(override: str) -> str:
    """`sampler.temp` of `sampler.temp=1.6`."""
    return re.split(r"[=/@]", override.lstrip("+~"))[0]


def _slug(named: list[str]) -> str:
    plain = re.sub(r"[\[\]\s\"']", "", ",".join(named))
    return re.sub(r"[^\w.=,@+-]+", "_", plain).strip("_") or "defaults"


def setting_names(schema: type = RunConfig, prefix: str = "") -> list[str]:
    """Every dotted setting of the schema."""
    names = []
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        inner = next(
            (
                t
                for t in (hints[field.name], *typing.get_args(hints[field.name]))
                if dataclasses.is_dataclass(t)
            ),
            None,
        )
        names.append(prefix + field.name)
        if isinstance(inner, type):
            names += setting_names(inner, f"{prefix}{field.name}.")
    return names


def explain(error: HydraException | OmegaConfBaseException) -> ConfigError:
    """A composition error as one line that names the setting and what it could be."""
    message = str(error)
    if (
        isinstance(error, MissingConfigException)
        and error.missing_cfg_file
        and error.options is not None
    ):
        group, _, option = error.missing_cfg_file.rpartition("/")
        return ConfigError(
            f"{group}={option}: no such option; {did_you_mean(option, list(error.options))}"
        )
    unknown = re.search(
        r"Could not override '([^']+)'|Key '([^']+)' not in|Error merging override \+?([\w.@/]+)=",
        message,
    )
    cause = one_line(error.__cause__).split(" full_key:")[0] if error.__cause__ else ""
    if unknown and unknown[3] and "not in" not in cause:
        return ConfigError(f"{unknown[3]}: {cause or one_line(error)}")
    if unknown:
        key = unknown[1] or unknown[3] or unknown[2]
        return ConfigError(f"{key}: no such setting; {did_you_mean(key, setting_names())[:300]}")
    return ConfigError(one_line(error))
