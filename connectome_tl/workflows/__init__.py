"""Workflows: one module per command, shared by the command line and notebooks."""
