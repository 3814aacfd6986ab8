"""How good a mix is: metrics against a reference mix, pictures, and the report."""

from fxnorm.evaluation.metrics import compare_mixes

__all__ = ["compare_mixes"]
