"""``python -m fxnorm``, which ``torchrun -m fxnorm`` needs: the ``fxnorm`` command."""

from fxnorm.cli import main

main(prog_name="fxnorm")
