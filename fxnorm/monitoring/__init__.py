"""What a served model was asked for: the lines of the endpoint's request log, and what they say about its inputs."""
