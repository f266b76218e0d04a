"""Mistakes on the command line, each in one line: unknown settings, options and values, and text
that Hydra's grammar does not take unquoted."""

import difflib
import re
import shlex

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from ssd.config.composition import RUN
from ssd.config.neighbours import meant_by
from ssd.config.reference import SECTION, reference
from ssd.errors import ConfigError, did_you_mean, one_line

AMBIGUOUS = re.compile(r"Ambiguous value for argument '(.*)'\n1\. ", re.DOTALL)
"""Hydra's words for several values outside a sweep."""


def explain(error: HydraException | OmegaConfBaseException) -> ConfigError:
    """A composition error as one line that names the setting and its possible values."""
    message = str(error)
    if isinstance(error, OverrideParseException):
        return ConfigError(_unreadable(error.override))
    if several := AMBIGUOUS.match(message):
        return ConfigError(_several(several[1]))
    if (
        isinstance(error, MissingConfigException)
        and error.missing_cfg_file
        and error.options is not None
    ):
        group, _, option = error.missing_cfg_file.rpartition("/")
        if option == "submitit_slurm":
            return ConfigError(
                "hydra/launcher=slurm needs a package that is not installed: pip install -e "
                "'.[slurm]', on a machine of a SLURM cluster"
            )
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
        return ConfigError(no_such_setting(unknown[1] or unknown[3] or unknown[2]))
    return ConfigError(one_line(error))


def no_such_setting(key: str) -> str:
    """Names the settings that `key` may stand for, with what they mean; those of its section where
    none is near."""
    known = list(reference())
    written, _, last = key.rpartition(".")
    section = written
    while section and section not in known:
        section = section.rpartition(".")[0]
    prefix = f"{section}." if section else ""
    inside = [name.removeprefix(prefix) for name in known if name.startswith(prefix)]
    names = sorted(name for name in inside if "." not in name)
    near = meant_by(key) or [name for name in known if name.rpartition(".")[2] == last][:3]
    if not near and section == written:
        near = [prefix + name for name in difflib.get_close_matches(last, names, n=1)]
    elif not near:
        near = difflib.get_close_matches(key, known, n=1)
    if near:
        guesses = " or ".join(map(repr, near))
        return f"{key}: no such setting; did you mean {guesses}? {_meanings(near)}"
    has = f"{section} has" if section else "there are"
    return (
        f"{key}: no such setting; {has} {', '.join(names)} "
        f"(ssd settings {shlex.quote(last)} searches them all)"
    )


def _meanings(names: list[str]) -> str:
    """What each of some settings means, in a sentence each."""
    settings = [reference()[name] for name in names]
    if len(settings) == 1:
        (setting,) = settings
        options = f"; {' '.join(RUN)} --help lists {setting.name}=OPTION"
        return setting.short + (options if setting.kind == SECTION else "")
    return "; ".join(f"{setting.name}: {setting.short}" for setting in settings)


def quoted(override: str) -> str:
    """An override whose value is plain text, quoted for Hydra and around that for the shell."""
    setting, _, value = override.partition("=")
    text = QuotedString(text=value, quote=Quote.double).with_quotes()
    return shlex.quote(f"{setting}={text}")


def _unreadable(override: str) -> str:
    """What to write in the place of an override that Hydra's grammar does not take."""
    setting, equals, value = override.partition("=")
    if not equals:
        return f"{override} sets nothing: write SETTING=VALUE or GROUP=OPTION"
    if value.startswith(("[", "{")):
        example = "[A,B]" if value.startswith("[") else "{A:1,B:2}"
        return (
            f"{override} ends early or holds characters that need quotes: quote it whole, such as "
            f"'{setting}={example}', and inside it texts such as \"a=b\""
        )
    if not _parses(shlex.split(quoted(override))[0]):
        return f"{override} sets nothing: {setting} is no name of a setting"
    return f"{override} holds characters that need quotes, of both kinds: write {quoted(override)}"


def _several(override: str) -> str:
    setting, _, value = override.partition("=")
    a_list = shlex.quote(f"{setting}=[{value}]")
    return (
        f"{override} gives {setting} several values: {' '.join(RUN)} -m runs one after the other; "
        f"a list is written {a_list}, one text with a comma {quoted(override)}"
    )


def _parses(override: str) -> bool:
    try:
        OverridesParser.create().parse_overrides([override])
    except OverrideParseException:
        return False
    return True
