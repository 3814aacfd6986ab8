"""One Kubeflow component for each task, all in the image of ``Containerfile``.

A component is a few lines round a function of ``fxnorm.stages``: it declares which artifacts go in and come out, and
fills in what Kubeflow shows of them. Each body is shipped as its text, so what it needs is imported inside.
"""

from fxnorm.components.stages import (
    announce,
    begin_search,
    check,
    collect_search,
    divide,
    evaluate,
    finish_mixes,
    list_sessions,
    list_songs,
    merge_checks,
    merge_statistics,
    mix_sessions,
    normalize,
    pretrain,
    register,
    resolve,
    search_trial,
    statistics,
    stop_at_failures,
    stop_at_findings,
    train,
)

__all__ = [
    "announce",
    "begin_search",
    "check",
    "collect_search",
    "divide",
    "evaluate",
    "finish_mixes",
    "list_sessions",
    "list_songs",
    "merge_checks",
    "merge_statistics",
    "mix_sessions",
    "normalize",
    "pretrain",
    "register",
    "resolve",
    "search_trial",
    "statistics",
    "stop_at_failures",
    "stop_at_findings",
    "train",
]
