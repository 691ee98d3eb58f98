"""The tables of README and docs/, each from `results/`."""
