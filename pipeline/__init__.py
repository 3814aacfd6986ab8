"""The five stages as a Kubeflow pipeline: its graph, and running it here or on a cluster."""
