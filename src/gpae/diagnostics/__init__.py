"""What a run has learnt, measured and drawn: credit, the use of the critic, gaps, curves, replays."""
