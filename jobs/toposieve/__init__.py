"""Toposieve: LHC event-topology classification, from ROOT files to a trained and evaluated model."""
