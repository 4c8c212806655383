"""Result records to one self-contained HTML file. Knows settings only; never torch."""
