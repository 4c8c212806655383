"""One module per command, imported when it is called; what the command line and notebooks share."""
