"""Training objectives, supervised and unsupervised, behind one interface."""
