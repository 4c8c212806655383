"""Imaging: reading, checking, preprocessing, registration, reconstruction and tractography."""
