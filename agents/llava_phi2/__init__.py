"""LLaVA-Phi2 checkpoints of every known layout become directories that vLLM and transformers serve."""
