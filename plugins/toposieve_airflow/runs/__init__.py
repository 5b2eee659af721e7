"""What a run is made of: its form, plan and steps, and what its tasks announce; whoever does the work."""
