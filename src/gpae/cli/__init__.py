"""The command `gpae`."""
