"""Tables as they are saved: cells, dictionaries, sheets, and which rows are kept."""
