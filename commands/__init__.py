"""One file a command that is not Lightning's; main.py dispatches to them by name."""
