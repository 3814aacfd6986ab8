"""The five stages and the mixes of many sessions as Kubeflow pipelines: graphs, and running them."""
