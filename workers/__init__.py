"""Work becomes jobs: inputs, the pipeline for each picture, and the folder that is left behind."""

from workers.inputs import InputItem, Inputs, find_inputs
from workers.records import Job, Result, read_job, read_results
from workers.run import JobSummary, Progress, run_job
from workers.spec import JobSpec

__all__ = ["InputItem", "Inputs", "Job", "JobSpec", "JobSummary", "Progress", "Result", "find_inputs", "read_job",
           "read_results", "run_job"]
