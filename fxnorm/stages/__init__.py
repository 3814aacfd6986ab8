"""The five stages. Each reads folders, writes folders and needs no orchestrator.

The entry points (the command line and the Kubeflow components) call their ``run``.
"""
