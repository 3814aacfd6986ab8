"""The five stages. Each reads folders, writes folders and needs no orchestrator; the faces call their ``run``."""
