"""The MLflow run of one execution of the pipeline."""
