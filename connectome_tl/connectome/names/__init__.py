"""Which region each row of a matrix is: labels, tables of labels, spellings, orders."""
