"""Preprocessing: denoising, motion, brain masks, tissues, gradient tables."""
