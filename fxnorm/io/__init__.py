"""Audio in and out, files that appear whole or not at all, object stores, and reading what is not trusted."""
