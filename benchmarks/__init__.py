"""Each figure of docs/benchmarks.md has a command here."""
