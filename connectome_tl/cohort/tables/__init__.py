"""Reading tables: cells, data dictionaries, spreadsheets, and selection of rows."""
