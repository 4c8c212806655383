"""Reports: render result records as one self-contained HTML file. Imports settings only."""
