"""Training: configuration, compiled programs, the loop on the host, what a run tells, trained policies."""
