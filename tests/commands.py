"""The ``fxnorm`` command in this process, and what it says of a mistake."""

from click.testing import CliRunner, Result

from fxnorm.cli import main


def fxnorm(*arguments: object) -> Result:
    """Run the command with these arguments."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def the_line(result: Result, status: int = 1) -> str:
    """The one line that a user's error gets."""
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("fxnorm: ")]
    return line
