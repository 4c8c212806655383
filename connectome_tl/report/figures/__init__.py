"""Figures as SVG, and the same drawings as matplotlib figures."""
