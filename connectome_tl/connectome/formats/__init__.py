"""One importer per file format that labs write, behind one table."""
