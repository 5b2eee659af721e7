"""Sample generation: Pythia 8.3 for the truth, a vectorised CMS-like detector, ROOT files in the layout of Delphes."""
