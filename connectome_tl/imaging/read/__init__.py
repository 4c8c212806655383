"""Read files of a folder as checked images and gradient tables."""
