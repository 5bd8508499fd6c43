"""What other rooms may use of `workers`."""

import workers


def test_public_names():
    assert sorted(workers.__all__) == ["InputItem", "Inputs", "Job", "JobSpec", "JobSummary", "Progress", "Result",
                                       "find_inputs", "read_job", "read_results", "run_job"]
    assert all(hasattr(workers, name) for name in workers.__all__)
