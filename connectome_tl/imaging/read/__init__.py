"""Files of a folder to checked images and gradient tables."""
