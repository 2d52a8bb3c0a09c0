"""The command that prints the completion script of a shell."""

from __future__ import annotations

import click

from .command import command

_SHELLS = ("bash", "zsh", "fish")


@command(is_configured=False, epilog='Example: eval "$(migrator completion bash)"')
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(*, shell: str) -> None:
    """Print the completion script for bash, zsh or fish.

    Completes commands, options, environments, and versions from the names of the files.
    """
    from click.shell_completion import ShellComplete, get_completion_class

    made = get_completion_class(shell)
    assert made is not None, "click knows these shells"
    main = click.get_current_context().find_root().command
    script = made(main, {}, "migrator", "_MIGRATOR_COMPLETE")
    # That of bash starts bash first, to warn of old versions.
    click.echo(ShellComplete.source(script))
