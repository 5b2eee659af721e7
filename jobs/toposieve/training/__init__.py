"""Training: input pipeline, models, the step loop and what a run leaves behind."""
