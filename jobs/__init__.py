"""The two processes of the Procfile: `python -m jobs.worker` and `python -m jobs.scheduler`."""
