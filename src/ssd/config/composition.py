"""Hydra's side: the schema it composes against, and its errors in one line."""

import dataclasses
import re
import typing

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssd.config.run_name import run_name
from ssd.config.settings import RunConfig
from ssd.errors import ConfigError, did_you_mean, one_line


def register() -> None:
    """Make the schema and the resolver known to Hydra."""
    ConfigStore.instance().store(name="run_config", node=RunConfig)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)


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
    """A composition error as one line that names the setting and its possible values."""
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
