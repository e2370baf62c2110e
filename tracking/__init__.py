"""MLflow and nothing else: logging runs and reading them back."""
