"""From a composed configuration to finished runs: the pipeline, a sweep's jobs."""
