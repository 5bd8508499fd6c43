"""Celery carries hints from the ledger to workers: the app, its tasks, the dispatcher, a worker's process."""
