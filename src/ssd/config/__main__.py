"""`ssd settings SETTING`: what a setting means, and what it may be."""

from collections.abc import Sequence

from ssd.config.mistakes import no_such_setting
from ssd.config.neighbours import meant_by
from ssd.config.reference import SECTION, Setting, inside, mentioning, reference
from ssd.errors import ConfigError
from ssd.runtime.command_line import command_line
from ssd.runtime.reporting import reporting_errors


def main(argv: Sequence[str] | None = None) -> None:
    """Print settings by name, by section, by other tools' words for them, or by a word in their
    sentences."""
    parser = command_line(
        "settings",
        "What a setting means, its type, what it may be and its default. Groups and recipes set "
        "many: python train.py --cfg job prints a run's own values.",
        "optimizer.lr",
        "train  # a whole section",
        "batch_size  # another tool's word",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="SETTING",
        help="a setting, a section, another tool's word for one, or any word; all where none is",
    )
    words = parser.parse_args(argv).words
    with reporting_errors():
        chosen = [setting for word in words for setting in find(word)] or list(reference().values())
        print("\n".join(setting.text() for setting in chosen), flush=True)


def find(word: str) -> list[Setting]:
    """The settings that a word stands for.

    Raises:
        ConfigError: there is none.
    """
    settings = reference()
    name = word.partition("=")[0]
    if name in settings:
        return [settings[name], *(inside(name) if settings[name].kind == SECTION else [])]
    found = [settings[ours] for ours in meant_by(name)] or mentioning(name)
    if not found:
        raise ConfigError(no_such_setting(name))
    return found


if __name__ == "__main__":
    main()
