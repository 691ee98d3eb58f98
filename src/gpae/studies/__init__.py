"""Studies: many trainings from one file."""
