"""The network, its losses and metrics, and one optimisation step."""
