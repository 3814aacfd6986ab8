"""Training a network to mix normalized stems: data, batches, checkpoints, one or several processes."""
