"""What a person runs: refit-bench COMMAND."""
