"""Models that leave the lab: what may go, what is checked, how they are read again."""
