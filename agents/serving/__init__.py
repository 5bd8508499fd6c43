"""vLLM on this machine's processor: an environment of its own, and one server in it.

Nothing here imports torch or vLLM: the environment has them, and the server is a process.
"""
