"""The command ``tunesmith``: a group whose commands are imported only when they are called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from tunesmith import log
from tunesmith.catalog import (
    COMMAND_ALIASES,
    COMMAND_HELP,
    COMMANDS,
    NEEDLESS_COMMANDS,
    UNBUILT_COMMANDS,
)
from tunesmith.cli.failure import exit_code_of, show_bug, show_error
from tunesmith.engine.signals import StopFlag, listening
from tunesmith.errors import ExitCode, TunesmithError


class LazyGroup(click.Group):
    """A group over the catalog's table of commands: names and help without any import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the catalog's order, then those of installed packages."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, imported now; None where there is none."""
        from tunesmith.registry import registry  # pulls importlib.metadata's cost into the call

        known = registry("commands")
        if cmd_name not in known:
            return None
        command = known.load(cmd_name)
        if not isinstance(command, click.Command):
            raise TunesmithError(
                f"`{known.target(cmd_name)}` is no command",
                hint="register a click command",
                where=cmd_name,
            )
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names; axolotl's names lead to ours, and say so."""
        if args[0] not in {*COMMANDS, *COMMAND_ALIASES} and self.get_command(ctx, args[0]) is None:
            self._refuse(ctx, args[0])
        from tunesmith.cli.aliases import translate  # knows the schema, which --help must not read

        args, notes = translate(args)
        for note in notes:
            click.echo(f"note: {note}", err=True)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The overview, from the catalog's help lines alone."""
        rows = [(name, COMMAND_HELP[name]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _refuse(self, ctx: click.Context, name: str) -> None:
        from tunesmith.registry import nearest

        if name in UNBUILT_COMMANDS:
            ctx.fail(f"The command `{name}` is not built yet.")
        if name in NEEDLESS_COMMANDS:
            ctx.fail(f"There is no command `{name}`: {NEEDLESS_COMMANDS[name]}.")
        meant = nearest(name, [*COMMANDS, *COMMAND_ALIASES])
        hint = f" Did you mean `{meant}`?" if meant else ""
        ctx.fail(f"There is no command `{name}`.{hint}")


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Any key of the config is an option too: tunesmith train run.yaml --learning-rate 1e-5",
)
@click.option("--debug", is_flag=True, help="Show the traceback of every error.")
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=lambda ctx, _, wanted: _show_version(ctx) if wanted else None,
    help="Show the version.",
)
@click.pass_context
def group(ctx: click.Context, *, debug: bool) -> None:
    """Fine-tune language models from one YAML file, checked before and while it trains."""
    ctx.obj = {"debug": debug}


def _show_version(ctx: click.Context) -> None:
    from importlib.metadata import PackageNotFoundError, version  # 20 ms that --help must not pay

    try:
        click.echo(f"tunesmith {version('tunesmith')}")
    except PackageNotFoundError:
        click.echo("tunesmith (run from its source, not installed)")
    ctx.exit()


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every error has been shown by then."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug, words = _asks_for_tracebacks(words)
    log.setup()
    try:
        with listening(StopFlag()):  # nothing to save yet: a signal ends the command at once
            result: Any = group.main(
                args=["--debug", *words] if debug else words,
                prog_name="tunesmith",
                standalone_mode=False,
            )
    except click.exceptions.Exit as left:
        return int(left.exit_code)
    except click.ClickException as error:
        error.show()
        return int(ExitCode.WRONG_INPUT)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return int(ExitCode.STOPPED)
    except TunesmithError as error:
        show_error(error, debug=debug)
        if error.exit_code is ExitCode.BUG:
            show_bug(error)
        return exit_code_of(error)
    except BrokenPipeError:
        return _closed_pipe()
    except Exception as error:  # whatever nobody foresaw
        show_bug(error)
        return exit_code_of(error)
    return int(result) if isinstance(result, int) else int(ExitCode.DONE)


# axolotl's commands whose own `--debug` shows rows of the data.
_SHOW_ROWS = ("preprocess", "train", "evaluate")


def _asks_for_tracebacks(words: list[str]) -> tuple[bool, list[str]]:
    """Whether ``--debug`` is ours, and the other words. It may stand anywhere, but behind a command
    that has one of its own.
    """
    command = next((n for n, word in enumerate(words) if not word.startswith("-")), len(words))
    if command < len(words) and words[command] in _SHOW_ROWS:
        before, behind = words[:command], words[command:]
    else:
        before, behind = words, []
    return "--debug" in before, [word for word in before if word != "--debug"] + behind


def _closed_pipe() -> int:
    """The reader of our output went away (``| head``): nothing more to say, and nothing wrong."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(ExitCode.DONE)


def main() -> None:
    """The entry point of the installed command."""
    sys.exit(run())
