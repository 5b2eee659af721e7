"""Toposieve: LHC event-topology classification, from ROOT files to a trained and evaluated model."""

from toposieve import environment

environment.prefer_own_packages()  # before any of them is imported
