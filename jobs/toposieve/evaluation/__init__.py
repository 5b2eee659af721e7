"""From a trained model and the test split to metrics, plots and a report."""
