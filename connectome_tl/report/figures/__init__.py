"""Figures as SVG, and the same drawings for notebooks."""
