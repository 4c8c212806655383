"""Corrections before reconstruction: noise, motion, brain masks, tissues, gradient tables."""
