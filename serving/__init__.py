"""The served model: a Mixer behind MLflow's scoring server, with limits on what a request may ask for."""
