"""What is made of finished runs: pictures and tables."""
