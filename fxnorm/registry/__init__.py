"""MLflow's model registry: what a registered model holds, its card and its aliases."""
